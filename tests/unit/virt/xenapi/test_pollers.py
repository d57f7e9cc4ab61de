import pytest

from nova_lite import exception


@pytest.fixture
def instance(bench):
    return bench.spawn()


def test_a_hung_reboot_goes_through_the_compute_service(bench, instance):
    asked = []
    bench.compute.admin_context = lambda: "admin"
    bench.compute.reboot_instance = lambda context, instance, kind: asked.append((context, instance["uuid"], kind))
    bench.driver.poll_rebooting_instances(0, [instance])
    assert asked == [("admin", instance["uuid"], "HARD")]


def test_without_a_compute_service_the_driver_reboots_itself(bench, instance):
    domid = bench.vm(instance)["domid"]
    bench.vmops.poll_rebooting_instances(0, [instance])
    assert bench.vm(instance)["domid"] != domid


def test_one_reboot_that_fails_stops_no_other(bench, instance):
    asked = []

    def reboot(context, one, kind):
        asked.append(one["uuid"])
        raise exception.InstanceNotFound(instance_id=one["uuid"])
    bench.compute.admin_context = lambda: "admin"
    bench.compute.reboot_instance = reboot
    bench.vmops.poll_rebooting_instances(0, [instance, instance])
    assert len(asked) == 2


def test_old_resizes_are_confirmed_and_those_of_lost_instances_end_in_error(bench):
    confirmed, failed = [], []

    def find(context, uuid):
        if uuid == "lost":
            raise exception.InstanceNotFound(instance_id=uuid)
        return {"uuid": uuid}

    def confirm(context, instance, migration):
        if instance["uuid"] == "broken":
            raise exception.NovaException("it is broken")
        confirmed.append(instance["uuid"])
    compute = bench.compute
    compute.admin_context = lambda: "admin"
    compute.migration_get_unconfirmed_by_dest_compute = lambda context, window: [
        {"id": number, "instance_uuid": uuid} for number, uuid in enumerate(["lost", "broken", "good"])]
    compute.instance_get_by_uuid = find
    compute.confirm_resize = confirm
    compute.migration_update = lambda context, migration, status: failed.append((migration["id"], status))

    bench.vmops.poll_unconfirmed_resizes(3600)

    assert confirmed == ["good"] and failed == [(0, "error")]
