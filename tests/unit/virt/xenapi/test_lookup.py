"""Which VM is whose: names, references, numbers, roles."""

from types import SimpleNamespace

import pytest

from nova_lite import exception
from nova_lite.objects import power_state
from nova_lite.virt.driver import HypervisorLoginRefused
from nova_lite.virt.xenapi import instances
from nova_lite.virt.xenapi.vm_cache import Vm, VmCache
from tests.fixtures.xen_bench import make_instance


@pytest.fixture
def bench(shared_bench):
    return shared_bench


@pytest.mark.parametrize(("template", "name"), [
    ("instance-%08x", "instance-0000001f"), ("vm-%(uuid)s", "vm-u-1"), ("%(hostname)s.%(project_id)s", "web.p"),
    ("%(no_such_column)s", "u-1"), ("%(user_data)s", "u-1"), ("%s-%s", "u-1")])
@pytest.mark.parametrize("form", [dict, lambda columns: SimpleNamespace(**columns)])
def test_the_template_makes_the_name_of_the_number_or_of_any_column(template, name, form):
    columns = {"id": 31, "uuid": "u-1", "hostname": "web", "project_id": "p", "user_data": None}
    assert instances.name_of(form(columns), template) == name


def test_an_instance_that_is_flagged_has_the_name_of_its_rescue_vm():
    assert instances.name_of({"name": "one", "_rescue": True}) == "one-rescue"
    assert instances.name_of({"name": "one-rescue", "_rescue": True}) == "one-rescue"
    assert instances.name_of({"name": "one", "_rescue": False}) == "one"


def test_every_power_state_has_one_of_ours(bench):
    record = bench.vm(bench.spawn(network_info=[], power_on=False))
    for told, state in [("Halted", power_state.SHUTDOWN), ("Running", power_state.RUNNING),
                        ("running", power_state.RUNNING), ("Paused", power_state.PAUSED),
                        ("Suspended", power_state.SUSPENDED), ("Crashed", power_state.CRASHED),
                        ("Unrecognised", power_state.NOSTATE)]:
        assert Vm.from_record("ref", {**record, "power_state": told}).state == state, told


@pytest.fixture
def twins(bench):
    """Two VMs with the label of one instance, as a host-side copy makes them; only one is the instance's."""
    instance = bench.spawn(network_info=[], power_on=False)
    own = bench.vmops.finder.require(instance)
    other = bench.api("VM.clone", own, instance["name"])
    bench.api("VM.set_other_config", other, {})
    bench.vmops.cache.all()
    bench.vmops.cache._replace(bench.vmops._session.get_all_refs_and_recs("VM"))
    yield instance, own, other
    bench.vmops.destroyer.destroy_vm({}, other)


def test_of_two_vms_with_one_label_the_marked_one_is_the_instances(bench, twins):
    instance, own, _ = twins
    assert bench.vmops.finder.require(instance) == own


def test_a_label_that_tells_nothing_is_refused(bench, twins):
    instance, own, _ = twins
    bench.api("VM.set_other_config", own, {})
    bench.vmops.cache._replace(bench.vmops._session.get_all_refs_and_recs("VM"))
    with pytest.raises(exception.InstanceExists, match=instance["name"]):
        bench.vmops.read_from_param_xenstore(instance)
    with pytest.raises(exception.InstanceExists):
        bench.spawn(instance)


@pytest.mark.parametrize("operation", ["pause", "unpause", "suspend", "resume", "power_on", "unrescue", "get_info",
                                       "get_diagnostics", "get_console_output", "get_vnc_console"])
def test_an_operation_on_an_instance_without_vm_says_whose_it_is(bench, operation):
    instance = make_instance()
    with pytest.raises((exception.InstanceNotFound, exception.InstanceNotInRescueMode)) as raised:
        getattr(bench.vmops, operation)(instance)
    assert instance["name"] in str(raised.value) or instance["uuid"] in str(raised.value)


def test_a_login_that_is_refused_is_not_tried_again_and_again():
    pauses = []

    def wait(stopping, seconds):
        pauses.append(seconds)
        if len(pauses) == 4:
            stopping.set()

    def log_in():
        if len(pauses) < 2:
            raise ConnectionError("the host is away")
        raise HypervisorLoginRefused(url="http://host", user="root", reason="SESSION_AUTHENTICATION_FAILED")

    VmCache(SimpleNamespace(log_in=log_in, clock=SimpleNamespace(wait=wait)))._listen()
    assert pauses == [1, 2, 600, 600]


def test_an_instance_without_vm_is_off(bench):
    bench.vmops.power_off(make_instance())


def test_only_guests_of_this_host_are_listed(bench):
    instance = bench.spawn(network_info=[], power_on=False)
    elsewhere = bench.spawn(network_info=[], power_on=False)
    vm_ref = bench.vmops.finder.require(elsewhere)
    bench.api("VM.remove_from_other_config", vm_ref, "nova_host")
    bench.api("VM.add_to_other_config", vm_ref, "nova_host", "another host")
    bench.vmops.cache._replace(bench.vmops._session.get_all_refs_and_recs("VM"))
    names = bench.vmops.list_instances()
    records = bench.api("VM.get_all_records").values()
    others = {vm["name_label"] for vm in records if vm["is_a_template"] or vm["is_control_domain"]}
    assert instance["name"] in names and elsewhere["name"] not in names and others and not others & set(names)
    assert (instance["name"], power_state.SHUTDOWN) in bench.vmops.list_instances_detail()
