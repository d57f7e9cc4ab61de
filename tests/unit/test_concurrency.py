import contextvars
import threading

import pytest

from nova_lite import concurrency

WHERE = contextvars.ContextVar("where", default="nowhere")


def test_a_spawned_task_sees_the_context_variables_of_its_parent():
    WHERE.set("here")

    assert concurrency.spawn(WHERE.get).wait(5) == "here"


def test_a_task_gives_its_error_to_who_waits():
    with pytest.raises(ZeroDivisionError):
        concurrency.spawn(lambda: 1 / 0).wait(5)


def test_waiting_for_a_task_has_a_limit():
    release = threading.Event()
    task = concurrency.spawn(release.wait)

    with pytest.raises(concurrency.TimeLimitExceeded):
        task.wait(0.05)

    release.set()
    assert task.wait(5)


def test_a_pool_refuses_when_all_its_workers_are_busy():
    pool = concurrency.Pool("test", 2, queue_size=0)
    release = threading.Event()
    jobs = [pool.submit(release.wait), pool.submit(release.wait)]

    with pytest.raises(concurrency.PoolFull):
        pool.submit(int)

    release.set()
    assert [job.result(5) for job in jobs] == [True, True]
    assert pool.shutdown(5)


def test_a_pool_lets_accepted_jobs_end_and_takes_no_more_after_shutdown():
    pool = concurrency.Pool("test", 1)
    done = []
    for number in range(3):
        pool.submit(done.append, number)

    assert pool.shutdown(5)
    assert done == [0, 1, 2]
    with pytest.raises(RuntimeError):
        pool.submit(int)


def test_a_call_within_a_limit_gives_the_result_or_ends_at_the_limit():
    pool = concurrency.Pool("test", 2, queue_size=0)

    assert concurrency.call_within(60, pool, lambda: 7) == 7
    with pytest.raises(concurrency.TimeLimitExceeded):
        concurrency.call_within(0.1, pool, threading.Event().wait, 30)


def test_those_who_find_no_free_worker_wait_until_their_limit_and_are_not_run_afterwards():
    if concurrency.is_green():
        pytest.skip("greenthreads need no pool")
    pool = concurrency.Pool("test", 1, queue_size=2)
    release, begun, ran = threading.Event(), threading.Event(), []
    blocker = pool.submit(lambda: begun.set() or release.wait(5))
    assert begun.wait(5)

    for _ in range(5):  # more than the queue holds: those who gave up have left it
        with pytest.raises(concurrency.TimeLimitExceeded):
            concurrency.call_within(0.02, pool, ran.append, "given up")
    patient = concurrency.spawn(concurrency.call_within, 5, pool, ran.append, "patient")
    release.set()
    patient.wait(5)

    assert blocker.result(5) and pool.shutdown(5)
    assert ran == ["patient"]


def test_a_timeout_of_the_function_itself_is_not_taken_for_the_limit():
    def fails():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        concurrency.call_within(5, concurrency.Pool("test", 1), fails)


def test_a_keyed_lock_excludes_others_lets_its_holder_in_again_and_is_forgotten():
    locks = concurrency.KeyedLocks()

    with locks.hold("a"), locks.hold("a"), locks.hold("b"):
        blocked = concurrency.spawn(_try, locks, "a").wait(5)
        held = len(locks)

    assert blocked == "locked"
    assert held == 2
    assert len(locks) == 0


def _try(locks, key):
    try:
        with locks.hold(key, timeout_s=0.05):
            return "free"
    except concurrency.TimeLimitExceeded:
        return "locked"


def test_a_process_has_one_mode():
    other = concurrency.THREADING if concurrency.is_green() else concurrency.EVENTLET

    with pytest.raises(RuntimeError):
        concurrency.setup(other)
    with pytest.raises(ValueError, match="concurrency must be"):
        concurrency.setup("asyncio")
