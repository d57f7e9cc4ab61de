"""nova-compute dies at any point of any action: on its next start every instance is in order."""

import pytest

from tests.functional.deaths import (
    ACTIONS,
    MOVES,
    TIMEOUT_S,
    calls_of,
    complaints,
    complaints_of_a_move,
    is_nobodys,
    points,
    prepared,
)

pytestmark = pytest.mark.timeout(TIMEOUT_S)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_host_that_dies_in_an_action_puts_its_instance_in_order_when_it_comes_back(deaths, action):
    wrong = []
    for point in points(calls_of(deaths, action)):
        instance, act = prepared(deaths, action)
        deaths.killer.run(act, point)
        left_at = f"died at call {point}, {deaths.killer.calls[-1]}"

        deaths.restart()

        if not is_nobodys(deaths.found(instance)):
            wrong += [f"{left_at}: {complaint}" for complaint in complaints(deaths, instance, ACTIONS[action][2])]
        deaths.clear(instance)

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("ask", MOVES, ids=lambda ask: ask.__name__)
def test_a_move_in_which_either_host_dies_ends_finished_or_reverted(deaths, ask):
    ask(deaths)
    _, count = deaths.deliver()
    wrong = []
    for point in points(count):
        instance = ask(deaths)
        host, left_at = deaths.deliver(die_at=point)
        deaths.restart(host)
        deaths.settle()
        wrong += [f"{left_at}: {complaint}" for complaint in complaints_of_a_move(deaths, instance, MOVES[ask])]
        now = deaths.found(instance)
        deaths.hosts[now.host].terminate_instance(deaths.world.context, instance=now)

    assert not wrong, "\n".join(wrong)


