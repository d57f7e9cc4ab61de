"""Many cells in one thread."""

import dataclasses
import io

import pytest

from nova_lite.client.app import NovaLite
from nova_lite.simulate.forest import Forest, family
from nova_lite.simulate.world import World, WorldClock


def play(directory, seed):
    directory.mkdir()
    forest = Forest(4, 3, seed, directory)
    try:
        return forest.play(6)
    finally:
        forest.close()


def test_every_build_is_placed_and_the_top_knows_what_is_left(tmp_path):
    result = play(tmp_path / "one", 1)

    assert (result.active, result.failed, result.converged) == (6, 0, True)
    assert result.placed_per_s > 0


def test_a_seed_gives_the_same_world_again(tmp_path):
    first, second = (dataclasses.asdict(play(tmp_path / name, 7)) for name in ("first", "second"))

    for of_the_machine in ("placed_per_s", "real_s", "memory_mb"):
        del first[of_the_machine], second[of_the_machine]
    assert first == second


def test_a_tree_has_ten_children_to_a_cell():
    parents = family(112)

    assert list(parents.values()).count("top") == 10
    assert parents["cell11"] == "cell1"
    assert parents["cell111"] == "cell11"


def test_the_command_prints_what_came_of_it():
    stdout, stderr = io.StringIO(), io.StringIO()

    status = NovaLite(stdout=stdout, stderr=stderr).run(
        ["simulate", "--cells", "2", "--hosts", "1", "--builds", "2", "-f", "value", "-c", "active", "-c", "seed"])

    assert (status, stdout.getvalue().split()) == (0, ["1", "2"]), stderr.getvalue()


def test_time_moves_only_when_nothing_is_due_any_more():
    world, seen = World(1), []
    clock = WorldClock(world)

    def task(name, seconds):
        clock.sleep(seconds)
        seen.append((name, world.now_s))

    world.spawn("a", task, "late", 5.0)
    world.spawn("b", task, "early", 1.0)
    world.run(10)

    assert seen == [("early", 1.0), ("late", 5.0)]


def test_a_killed_owner_does_nothing_more():
    world, seen = World(1), []
    world.spawn("a", lambda: (world.sleep(5), seen.append("a")))
    world.run(1)

    world.kill("a")
    world.run(10)

    assert seen == []


def test_what_a_task_raises_ends_the_run():
    world = World(1)
    world.spawn("a", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        world.run(1)
