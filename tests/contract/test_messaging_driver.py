"""What of oslo.messaging's unpublished driver interface the memory driver and the server build on."""

import inspect

import oslo_messaging
from oslo_messaging import server as library_server
from oslo_messaging._drivers import base, common
from oslo_messaging.rpc import server as rpc_server


def parameters(function):
    return list(inspect.signature(function).parameters)[1:]


def test_a_driver_is_made_and_asked_as_we_expect():
    assert parameters(base.BaseDriver.__init__) == ["conf", "url", "default_exchange", "allowed_remote_exmods"]
    assert parameters(base.BaseDriver.send) == [
        "target", "ctxt", "message", "wait_for_reply", "timeout", "call_monitor_timeout", "retry", "transport_options"]
    assert parameters(base.BaseDriver.send_notification) == ["target", "ctxt", "message", "version", "retry"]
    assert parameters(base.BaseDriver.listen) == ["target", "batch_size", "batch_timeout"]
    assert parameters(base.BaseDriver.listen_for_notifications) == [
        "targets_and_priorities", "pool", "batch_size", "batch_timeout"]


def test_a_listener_and_a_message_have_the_methods_we_write():
    assert parameters(base.Listener.__init__) == ["batch_size", "batch_timeout", "prefetch_size"]
    assert parameters(base.Listener.start) == ["on_incoming_callback"]
    assert base.RpcIncomingMessage.__abstractmethods__ == {"requeue", "reply", "heartbeat"}


def test_failures_are_written_and_rebuilt_by_the_library():
    assert list(inspect.signature(common.serialize_remote_exception).parameters) == ["failure_info"]
    assert list(inspect.signature(common.deserialize_remote_exception).parameters) == ["data", "allowed_remote_exmods"]


def test_a_server_takes_its_workers_from_where_we_put_them():
    assert "self._executor_cls(**executor_opts)" in inspect.getsource(library_server.MessageHandlingServer.start)
    assert "max_workers" in inspect.getsource(library_server.MessageHandlingServer.start)
    assert "self._work_executor.shutdown(wait=True)" in inspect.getsource(library_server.MessageHandlingServer.wait)
    assert parameters(rpc_server.RPCServer.__init__) == ["transport", "target", "dispatcher", "executor"]


def test_an_expected_exception_keeps_what_was_being_handled():
    try:
        try:
            raise ValueError("x")
        except ValueError:
            raise oslo_messaging.ExpectedException() from None
    except oslo_messaging.ExpectedException as wrapped:
        assert wrapped.exc_info[0] is ValueError
