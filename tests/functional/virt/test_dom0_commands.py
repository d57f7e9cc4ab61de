"""nova-lite dom0 install and check, over a real sshd where one is installed, and over a stand-in for ssh."""

import getpass
import io
import json
import os
import pathlib
import stat
import subprocess
import sys

import pytest

from nova_lite.client.app import NovaLite
from nova_lite.client.dom0 import plugins
from tests.fixtures.sshd import install_stand_in, is_installed, running_sshd


@pytest.fixture(scope="module")
def ssh_config(tmp_path_factory):
    if not is_installed():
        pytest.skip("there is no sshd here: openssh-server")
    with running_sshd(tmp_path_factory.mktemp("sshd")) as config:
        yield config


@pytest.fixture
def way():
    """How the dom0 is reached, where a test does not say otherwise."""
    return "stand-in"


@pytest.fixture
def run(request, way, tmp_path, monkeypatch):
    """Run a command on a dom0 whose plugins are below tmp_path."""
    options = ["--directory", str(tmp_path / "plugins"), "--user", getpass.getuser()]
    (tmp_path / "plugins").mkdir()
    if way == "sshd":
        options += ["--ssh-config", str(request.getfixturevalue("ssh_config"))]
    else:
        install_stand_in(tmp_path)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def call(*words):
        """Return (exit status, rows or None, what was said)."""
        out, said = io.StringIO(), io.StringIO()
        status = NovaLite(stdout=out, stderr=said).run([*words, "--host", "dom0", *options, "-f", "json"])
        return status, json.loads(out.getvalue()) if out.getvalue() else None, said.getvalue()

    return call


@pytest.mark.parametrize("way", ["sshd", "stand-in"])
def test_plugins_are_installed_verified_and_ready_to_run(run, way, tmp_path):
    status, rows, _ = run("dom0", "install")
    assert status == 0
    assert {row["Outcome"] for row in rows} == {"copied"} and {row["Before"] for row in rows} == {"missing"}
    assert sorted(path.name for path in (tmp_path / "plugins").iterdir()) == sorted(each.name for each in plugins())
    assert (tmp_path / "plugins" / "agent.py").stat().st_mode & stat.S_IXUSR
    assert not (tmp_path / "plugins" / "nova_lite_dom0.py").stat().st_mode & stat.S_IXUSR
    assert run("dom0", "check")[0] == 0


def test_a_dry_run_tells_and_changes_nothing(run, tmp_path):
    status, rows, _ = run("dom0", "install", "--dry-run")
    assert status == 0 and {row["Outcome"] for row in rows} == {"would be copied"}
    assert list((tmp_path / "plugins").iterdir()) == []


@pytest.mark.parametrize("way", ["sshd", "stand-in"])
def test_only_what_differs_is_copied_again(run, way, tmp_path):
    run("dom0", "install")
    (tmp_path / "plugins" / "agent.py").write_text("old")
    (tmp_path / "plugins" / "console.py").chmod(0o644)
    (tmp_path / "plugins" / "kernel.py").unlink()
    status, rows, _ = run("dom0", "check")
    assert status == 1
    differing = {row["Plugin"]: row["State"] for row in rows if row["State"] != "same"}
    assert differing == {"agent.py": "different", "console.py": "not executable", "kernel.py": "missing"}

    status, rows, _ = run("dom0", "install")
    assert status == 0 and {row["Plugin"] for row in rows if row["Outcome"] == "copied"} == set(differing)
    assert run("dom0", "check")[0] == 0


def test_a_host_that_cannot_be_written_to_is_one_line(run, tmp_path):
    (tmp_path / "plugins").rmdir()
    status, _, said = run("dom0", "install")
    assert status == 1 and len(said.strip().splitlines()) == 1 and "dom0:" in said


def test_one_of_several_hosts_that_cannot_be_reached_keeps_the_others_from_nothing(run):
    status, rows, said = run("dom0", "install", "--host=no host")
    assert status == 1 and said == ""
    assert [row["Outcome"] for row in rows if row["Host"] == "no host"] == [
        f"{getpass.getuser()}@no host is no place ssh can go to"]
    assert {row["Outcome"] for row in rows if row["Host"] == "dom0"} == {"copied"}
    status, rows, _ = run("dom0", "check", "--host=no host")
    assert status == 1 and {row["State"] for row in rows if row["Host"] == "dom0"} == {"same"}


def test_a_host_key_that_is_unknown_is_refused(ssh_config, tmp_path):
    other = tmp_path / "ssh_config"
    other.write_text(ssh_config.read_text().replace("known_hosts", "nobody_known"))
    said = io.StringIO()
    status = NovaLite(stdout=io.StringIO(), stderr=said).run(
        ["dom0", "check", "--host", "dom0", "--ssh-config", str(other), "--user", getpass.getuser()])
    assert status == 1 and "Host key verification failed" in said.getvalue()


@pytest.mark.parametrize("host", ["-oProxyCommand=touch /tmp/x", "a b"])
def test_a_host_that_would_be_an_option_is_refused(host, monkeypatch, tmp_path):
    install_stand_in(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = io.StringIO()
    assert NovaLite(stdout=io.StringIO(), stderr=said).run(["dom0", "check", f"--host={host}"]) == 1
    assert not (tmp_path / "log").exists()


def test_installed_plugins_find_their_helpers_and_run(run, tmp_path):
    run("dom0", "install")
    (tmp_path / "XenAPIPlugin.py").write_text("def dispatch(table): print(sorted(table))")
    done = subprocess.run([sys.executable, str(tmp_path / "plugins" / "xenstore.py"), ""], capture_output=True,
                          text=True, env={"PYTHONPATH": str(tmp_path)}, check=True)
    assert "read_record" in done.stdout
    assert pathlib.Path(tmp_path / "plugins" / "nova_lite_vhds.py").exists()
