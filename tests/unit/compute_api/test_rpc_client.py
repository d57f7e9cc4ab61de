"""What the client of the compute manager sends: mode, version and addressee of each method, and its older forms."""

import inspect

import pytest

from nova_lite import exception
from nova_lite.compute import rpc_history, rpcapi
from nova_lite.compute.manager import ComputeManager
from nova_lite.context import RequestContext, Services
from tests.fixtures.services import make_conf

CTXT = RequestContext("alice", "red")
INSTANCE = {"uuid": "u1", "host": "own"}
RECORD = {"id": 7, "status": "finished"}
# The value of each argument; `host` is where a method goes that is not for the instance's own host.
SAMPLES = {"instance": INSTANCE, "host": "other", "destination": "other", "host_param": "guest", "migration": RECORD,
           "aggregate": {"id": 7, "name": "a"}, "recreate": False, "cast": True}
CALL, CAST = "call", "cast"
OWN, OTHER = "own", "other"

# Method: mode, lowest version of the manager that takes today's form, whom it goes to.
TABLE = {
    "add_aggregate_host": (CAST, "2.14", OTHER),
    "add_fixed_ip_to_instance": (CAST, "2.0", OWN),
    "attach_interface": (CALL, "2.25", OWN),
    "attach_volume": (CAST, "2.0", OWN),
    "change_instance_metadata": (CAST, "2.0", OWN),
    "check_can_live_migrate_destination": (CALL, "2.0", OTHER),
    "check_can_live_migrate_source": (CALL, "2.0", OWN),
    "confirm_resize": (CAST, "2.7", OTHER),
    "detach_interface": (CAST, "2.25", OWN),
    "detach_volume": (CAST, "2.0", OWN),
    "finish_resize": (CAST, "2.8", OTHER),
    "finish_revert_resize": (CAST, "2.13", OTHER),
    "get_backdoor_port": (CALL, "2.0", OTHER),
    "get_console_output": (CALL, "2.0", OWN),
    "get_console_pool_info": (CALL, "2.0", OTHER),
    "get_console_topic": (CALL, "2.0", OTHER),
    "get_diagnostics": (CALL, "2.0", OWN),
    "get_host_uptime": (CALL, "2.0", OTHER),
    "get_spice_console": (CALL, "2.24", OWN),
    "get_vnc_console": (CALL, "2.0", OWN),
    "host_maintenance_mode": (CALL, "2.0", OTHER),
    "host_power_action": (CALL, "2.0", OTHER),
    "inject_file": (CAST, "2.0", OWN),
    "inject_network_info": (CAST, "2.0", OWN),
    "live_migration": (CAST, "2.0", OTHER),
    "pause_instance": (CAST, "2.0", OWN),
    "post_live_migration_at_destination": (CALL, "2.0", OTHER),
    "power_off_instance": (CAST, "2.0", OWN),
    "power_on_instance": (CAST, "2.0", OWN),
    "pre_live_migration": (CALL, "2.21", OTHER),
    "prep_resize": (CAST, "2.20", OTHER),
    "publish_service_capabilities": (CAST, "2.0", "all"),
    "reboot_instance": (CAST, "2.23", OWN),
    "rebuild_instance": (CAST, "2.22", OTHER),
    "refresh_provider_fw_rules": (CAST, "2.0", OTHER),
    "remove_aggregate_host": (CAST, "2.15", OTHER),
    "remove_fixed_ip_from_instance": (CAST, "2.0", OWN),
    "remove_volume_connection": (CALL, "2.0", OTHER),
    "rescue_instance": (CAST, "2.0", OWN),
    "reserve_block_device_name": (CALL, "2.3", OWN),
    "reset_network": (CAST, "2.0", OWN),
    "resize_instance": (CAST, "2.16", OWN),
    "restore_instance": (CAST, "2.0", OWN),
    "resume_instance": (CAST, "2.0", OWN),
    "revert_resize": (CAST, "2.12", OTHER),
    "rollback_live_migration_at_destination": (CAST, "2.0", OTHER),
    "run_instance": (CAST, "2.19", OTHER),
    "set_admin_password": (CALL, "2.0", OWN),
    "set_host_enabled": (CALL, "2.0", OTHER),
    "snapshot_instance": (CAST, "2.0", OWN),
    "soft_delete_instance": (CAST, "2.27", OWN),
    "start_instance": (CAST, "2.0", OWN),
    "stop_instance": (CAST, "2.0", OWN),
    "suspend_instance": (CAST, "2.0", OWN),
    "terminate_instance": (CAST, "2.27", OWN),
    "unpause_instance": (CAST, "2.0", OWN),
    "unrescue_instance": (CAST, "2.0", OWN),
    "validate_console_port": (CALL, "2.26", OWN),
}

# Arguments of a version that a manager of the version before does not know: taken away, put in their place.
OLDER = {
    "2.27": {"terminate_instance": ({"reservations"}, set()), "soft_delete_instance": ({"reservations"}, set())},
    "2.23": {"reboot_instance": (set(), {"network_info"})},
    "2.22": {"rebuild_instance": ({"recreate", "on_shared_storage"}, set())},
    "2.21": {"pre_live_migration": ({"migrate_data"}, set())},
    "2.20": {"prep_resize": ({"node"}, set())},
    "2.19": {"run_instance": ({"node"}, set())},
    "2.18": {"rebuild_instance": ({"bdms"}, set())},
    "2.16": {"resize_instance": ({"instance_type"}, set())},
    "2.15": {"remove_aggregate_host": ({"aggregate"}, {"aggregate_id"})},
    "2.14": {"add_aggregate_host": ({"aggregate"}, {"aggregate_id"})},
    "2.13": {"finish_revert_resize": ({"migration"}, {"migration_id"})},
    "2.12": {"revert_resize": ({"migration"}, {"migration_id"})},
    "2.10": {"prep_resize": ({"request_spec", "filter_properties"}, set())},
    "2.8": {"finish_resize": ({"migration"}, {"migration_id"})},
    "2.7": {"confirm_resize": ({"migration"}, {"migration_id"})},
    "2.6": {"resize_instance": ({"migration"}, {"migration_id"})},
    "2.5": {"reboot_instance": ({"block_device_info", "network_info"}, set())},
    "2.4": {"terminate_instance": ({"bdms"}, set())},
    "2.3": {"reserve_block_device_name": ({"volume_id"}, set())},
    "2.2": {"add_aggregate_host": ({"slave_info"}, set()), "remove_aggregate_host": ({"slave_info"}, set())},
    "2.1": {"rebuild_instance": ({"orig_sys_metadata"}, set())},
}
SINCE = {"soft_delete_instance": "2.11", "restore_instance": "2.11", "get_backdoor_port": "2.17",
         "get_spice_console": "2.24", "attach_interface": "2.25", "detach_interface": "2.25",
         "validate_console_port": "2.26"}


class Wire:
    """Stands where the messaging is, and keeps what is sent."""

    def __init__(self):
        self.sent = []

    def client(self, topic, **_kwargs):
        return self

    def cast(self, ctxt, method, *, version, server="all", fanout=False, **args):
        self.sent.append((CAST, method, version, server, args))

    def call(self, ctxt, method, *, version, server, **args):
        self.sent.append((CALL, method, version, server, args))


@pytest.fixture(scope="module")
def send(tmp_path_factory):
    """A function that returns what a method sends under a cap: (mode, version, addressee, arguments)."""
    conf = make_conf(tmp_path_factory.mktemp("rpc"))
    wire = Wire()

    def sending(method, cap=None, **given):
        conf.set_override("compute", cap, "upgrade_levels")
        client = rpcapi.ComputeAPI(Services(conf=conf, rpc=wire))
        parameters = list(inspect.signature(getattr(client, method)).parameters)[1:]
        arguments = {name: SAMPLES.get(name, name) for name in parameters} | given
        wire.sent.clear()
        getattr(client, method)(CTXT, **arguments)
        ((mode, sent, version, server, args),) = wire.sent
        assert sent == method
        return mode, version, server, args

    return sending


def minor(version):
    return int(version.partition(".")[2])


def test_the_table_has_every_method():
    assert set(TABLE) == {name for name, _ in inspect.getmembers(rpcapi.ComputeAPI, inspect.isfunction)
                          if not name.startswith("_")}


@pytest.mark.parametrize("method", TABLE)
def test_a_method_has_its_mode_its_version_and_its_addressee(send, method):
    mode, version, server, _arguments = send(method)

    assert (mode, version, server) == TABLE[method]


@pytest.mark.parametrize("cap", [f"2.{number}" for number in range(28)])
def test_under_a_cap_a_message_is_one_that_older_managers_take(send, cap):
    for method in TABLE:
        today = set(send(method)[3])
        if minor(SINCE.get(method, "2.0")) > minor(cap):
            with pytest.raises(exception.RpcVersionCapError):
                send(method, cap)
            continue
        if method == "publish_service_capabilities" and minor(cap) < 9:
            continue
        _mode, version, _server, arguments = send(method, cap)

        expected = set(today)
        for changed in sorted((version for version in OLDER if minor(version) > minor(cap)), key=minor, reverse=True):
            gone, instead = OLDER[changed].get(method, (set(), set()))
            expected = expected - gone | instead
        assert set(arguments) == expected, (method, cap)
        assert minor(version) <= minor(cap)
        inspect.signature(getattr(ComputeManager, method)).bind(None, CTXT, **arguments)  # ours take the old form too


def test_records_that_older_managers_know_by_their_id_are_named_so(send):
    assert send("confirm_resize", "2.6")[3]["migration_id"] == 7
    assert send("confirm_resize", "2.6", migration=None)[3]["migration_id"] is None
    assert send("add_aggregate_host", "2.13")[3]["aggregate_id"] == 7


def test_what_an_older_manager_would_do_otherwise_is_refused(send):
    with pytest.raises(exception.RpcVersionCapError, match=r"2\.22"):
        send("rebuild_instance", "2.21", recreate=True)


def test_a_hint_that_older_managers_do_not_know_is_not_sent(tmp_path):
    wire = Wire()
    conf = make_conf(tmp_path)
    conf.set_override("compute", "2.8", "upgrade_levels")

    rpcapi.ComputeAPI(Services(conf=conf, rpc=wire)).publish_service_capabilities(CTXT)

    assert wire.sent == []


def test_a_cap_may_be_the_name_of_a_release_and_nothing_else(tmp_path):
    conf = make_conf(tmp_path)
    conf.set_override("compute", "grizzly", "upgrade_levels")
    rpcapi.ComputeAPI(Services(conf=conf, rpc=Wire()))

    conf.set_override("compute", "zebra", "upgrade_levels")
    with pytest.raises(exception.ConfigurationError, match="zebra"):
        rpcapi.ComputeAPI(Services(conf=conf, rpc=Wire()))


def test_every_version_that_changed_a_method_is_known():
    changes = {(change.version, method) for method, history in rpc_history.CHANGES.items() for change in history}
    assert changes == {(version, method) for version, methods in OLDER.items() for method in methods}
