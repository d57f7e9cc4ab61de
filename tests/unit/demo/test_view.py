"""What the demo shows."""

import io
import types

import pytest
import rich.console

from nova_lite.demo import story, view
from nova_lite.demo.story import Step
from nova_lite.demo.view import Row


@pytest.fixture
def tree():
    """The shape of a tree, as far as it is drawn."""
    top = types.SimpleNamespace(path="api", transport_url="memory://t/api", parent=None, hosts=[])
    host = types.SimpleNamespace(name="west-1", url="http://127.0.0.1:1")
    west = types.SimpleNamespace(path="api!west", transport_url="memory://t/api-west", parent=top, hosts=[host])
    return types.SimpleNamespace(cells={"api": top, "api!west": west}, top=top)


def drawn(tree, rows, steps=()):
    console = rich.console.Console(file=io.StringIO(), width=120)
    live = view.Live(console)
    for step in steps:
        live.on_step(step)
    console.print(live._picture(tree, tuple(rows)))
    return console.file.getvalue().splitlines()


def row(**values):
    known = {"name": "demo-1", "cell": "api!west", "host": "west-1", "vm_state": "building", "task_state": "spawning"}
    return Row(**{**known, "progress": 40, "xenserver": "Halted", **values})


def test_machines_hang_below_their_host(tree):
    lines = drawn(tree, [row()])

    assert [line.strip("│├└─ ").split("  ")[0] for line in lines] == ["api", "api!west", "west-1", "demo-1"]
    assert lines[3].endswith("building, spawning 40%; XenServer: Halted")


def test_a_machine_that_has_no_cell_yet_hangs_below_the_top(tree):
    lines = drawn(tree, [row(cell="api", host="", task_state="scheduling", xenserver="no VM")])

    assert "demo-1" in lines[1]


def test_steps_are_marked_when_they_have_happened(tree):
    lines = drawn(tree, [], [Step("boot", "api", 1.25, "on west-1"), Step("pause", "api")])

    assert lines[-2].startswith("✓ boot")
    assert "on west-1  1.2 s" in lines[-2]
    assert lines[-1].startswith("… pause")


def test_lines_tell_the_beginning_and_the_end_of_a_step():
    stream = io.StringIO()
    lines = view.Lines(stream)
    lines.on_step(Step("pause demo-1", "api → api!west → west-1"))
    lines.on_step(Step("pause demo-1", "api → api!west → west-1", 0.5, "VM.pause on west-1"))

    assert stream.getvalue().splitlines() == [
        "… pause demo-1 (api → api!west → west-1)",
        "✓ pause demo-1: VM.pause on west-1 (0.5 s)",
    ]


def test_the_way_to_a_machine_names_every_cell():
    instance = types.SimpleNamespace(cell_name="api!west!rack1", host="r1")

    assert story.where(instance) == "api → api!west → api!west!rack1 → r1"
