import threading

from tests.fixtures.xen_bench import make_network_info


def in_parallel(count, function):
    errors = []

    def run(number):
        try:
            function(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_sixteen_builds_at_once_all_run_and_leave_nothing_when_destroyed(bench):
    bench.vmops.destroy(bench.spawn(), [])
    before = bench.counts()
    built = []

    assert in_parallel(16, lambda number: built.append(bench.spawn())) == []
    assert {bench.vm(instance)["power_state"] for instance in built} == {"Running"}
    assert len(built) == 16
    assert in_parallel(16, lambda number: bench.vmops.destroy(built[number], make_network_info())) == []

    assert bench.counts() == before


def test_operations_on_many_instances_do_not_mix(bench):
    built = [bench.spawn() for _ in range(6)]

    def cycle(number):
        for operation in ("pause", "unpause", "power_off", "power_on"):
            getattr(bench.vmops, operation)(built[number])

    assert in_parallel(6, cycle) == []
    assert {bench.vm(instance)["power_state"] for instance in built} == {"Running"}
