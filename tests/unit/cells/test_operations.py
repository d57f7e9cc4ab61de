import inspect
import subprocess
import sys

import pytest

from nova_lite.cells import operations
from nova_lite.cells.manager import CellsManager
from nova_lite.cells.messaging import MessageRunner
from nova_lite.cells.operations import Route, registry
from nova_lite.cells.rpcapi import CellsAPI


def signature(cls, name):
    return str(inspect.signature(getattr(cls, name)))


@pytest.mark.parametrize(("cls", "name", "expected"), [
    (MessageRunner, "reboot_instance", "(self, ctxt, instance, reboot_type)"),
    (CellsManager, "reboot_instance", "(self, ctxt, instance, reboot_type)"),
    (CellsAPI, "reboot_instance", "(self, ctxt, instance, block_device_info, reboot_type)"),
    (MessageRunner, "get_host_uptime", "(self, ctxt, cell_name, host_name)"),
    (CellsManager, "get_host_uptime", "(self, ctxt, host_name)"),
    (CellsAPI, "get_host_uptime", "(self, context, host_name)"),
    (CellsManager, "service_delete", "(self, ctxt, cell_service_id)"),
    (MessageRunner, "service_delete", "(self, ctxt, cell_name, service_id)"),
    (CellsAPI, "sync_instances", "(self, ctxt, project_id=None, updated_since=None, deleted=False)"),
    (MessageRunner, "instance_update_at_top", "(self, ctxt, instance, *, revision=None, snapshot=False)"),
    (CellsManager, "instance_update_at_top", "(self, ctxt, instance)"),
])
def test_every_face_of_an_operation_has_its_true_signature(cls, name, expected):
    assert signature(cls, name) == expected


def test_faces_carry_the_docstring_of_the_declaration():
    work = registry.get("pause_instance").work

    assert MessageRunner.pause_instance.__doc__ == CellsManager.pause_instance.__doc__ == work.__doc__
    assert MessageRunner.pause_instance.__qualname__ == "MessageRunner.pause_instance"


@pytest.mark.parametrize("cls", [MessageRunner, CellsManager, CellsAPI])
def test_every_public_method_says_what_it_does(cls):
    silent = [name for name, member in vars(cls).items()
              if inspect.isfunction(member) and not name.startswith("_") and not member.__doc__]

    assert silent == []


def test_a_method_written_in_the_class_wins():
    class Face:
        def pause_instance(self, ctxt, instance):
            return "by hand"

    assert operations.runner_methods(Face)().pause_instance(None, None) == "by hand"


def test_wrong_arguments_are_refused_before_anything_is_sent():
    with pytest.raises(TypeError, match="reboot_type"):
        MessageRunner.reboot_instance(object(), "ctxt", "instance")


def test_every_public_operation_can_be_asked_of_the_manager():
    public = [op for op in registry if not op.own and op.route not in (Route.NEIGHBOUR, Route.ORIGIN)]

    assert {op.name for op in public} <= CellsManager.remote_methods
    assert all(callable(getattr(CellsManager, op.name)) for op in public)


def test_private_names_and_own_operations_are_not_served_by_the_manager():
    assert not any(name.startswith("_") for name in CellsManager.remote_methods)
    assert not {op.name for op in registry if op.own} & CellsManager.remote_methods


def test_an_operation_cannot_be_declared_twice():
    def pause_instance(cell, message, instance):
        """Another one."""

    with pytest.raises(ValueError, match="pause_instance"):
        operations.operation(Route.INSTANCE_CELL)(pause_instance)


def test_additions_travel_only_when_they_say_something():
    op = registry.get("instance_update_at_top")

    assert op.wire_kwargs({"instance": 1, "revision": None, "snapshot": False}) == {"instance": 1}
    assert op.wire_kwargs({"instance": 1, "revision": 7, "snapshot": False}) == {"instance": 1, "revision": 7}


def test_the_table_is_printed():
    done = subprocess.run([sys.executable, "-W", "ignore", "-m", "nova_lite.cells.operations"], capture_output=True,
                          text=True, check=True)

    assert "pause_instance                   the instance's cell" in done.stdout
