"""`nova-lite demo`, as a newcomer runs it: on the embedded database, whatever others run on."""

import subprocess
import sys

from tests.fixtures.processes import REPOSITORY


def demo(*arguments, stdin=""):
    return subprocess.run(
        [sys.executable, "-m", "nova_lite.cmd.shell", "demo", *arguments],
        cwd=REPOSITORY, input=stdin, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_demo_shows_a_tree_at_work(tmp_path):
    done = demo("--count", "2", "--keep", str(tmp_path / "kept"))

    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("cell api!west", "nova-compute east-1", "demo-2", "XenServer: Running", "VM.pause on", "identical"):
        assert told in done.stdout
    assert "Traceback" not in (tmp_path / "kept" / "demo.log").read_text()
    assert done.stderr == ""


def test_the_prompt_commands_work_on_the_running_tree():
    done = demo("--count", "1", "--shell", stdin="host list -f value -c Host\ncell list -f value -c Name\nquit\n")

    assert done.returncode == 0, done.stdout + done.stderr
    tail = done.stdout.partition("the tree is still running")[2]
    assert "west-1" in tail
    assert "east" in tail
    assert "not a nova-lite command" not in tail


def test_an_image_that_is_not_there_fails_the_demo_in_one_line(tmp_path):
    done = demo("--image", str(tmp_path / "none.vhd"))

    assert done.returncode == 1
    assert done.stderr == f"nova-lite: the demo failed: there is no image file {tmp_path}/none.vhd\n"


def test_a_wrong_count_is_wrong_usage():
    assert demo("--count", "0").returncode == 2
