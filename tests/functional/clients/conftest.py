"""Clients that others wrote for XenServer, fetched from their registries as they are and run in processes of their own.

They are pinned by hash in package-lock.json and requirements.txt, and installed into temporary directories. Without a
registry the tests are skipped and say why; they fail instead where NOVA_LITE_REQUIRE_SERVERS=1.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.fixtures.servers import REQUIRED, find_program

HERE = pathlib.Path(__file__).parent
INSTALL_TIMEOUT_S = 300
CLIENT_TIMEOUT_S = 180
COLLECTION = "ansible_collections/community/general/"


def fetch(command, directory, registry):
    """Run an installation; skip the test, or fail where everything is required, when the registry is not reached."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=INSTALL_TIMEOUT_S, check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        if not done.returncode:
            return
    except subprocess.TimeoutExpired:
        output = f"no end after {INSTALL_TIMEOUT_S} s"
    message = f"{' '.join(map(str, command[:4]))} got nothing from {registry}:\n{output[-2000:]}"
    if REQUIRED:
        pytest.fail(message)
    pytest.skip(message)


def run_client(command, directory, environment=None):
    """Run a client to its end and return its output; the test fails with it when the client does."""
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def node_client(tmp_path_factory):
    """Return a function that runs a script of this directory on Node with the packages of package-lock.json."""
    node, npm = find_program("nodejs", "node", "nodejs"), find_program("npm", "npm")
    directory = tmp_path_factory.mktemp("node-clients")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, directory)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1"]
    fetch([npm, "ci", *options], directory, "the npm registry")

    def run(script, *arguments):
        shutil.copy(HERE / script, directory)
        return run_client([node, script, *arguments], directory)

    return run


@pytest.fixture(scope="session")
def ansible_client(tmp_path_factory):
    """Return a function that plays a playbook of this directory with the packages of requirements.txt."""
    directory = tmp_path_factory.mktemp("ansible-client")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--retries=1"]
    fetch([*pip, "--require-hashes", "-r", HERE / "requirements.txt"], directory, "PyPI")
    for wheel in directory.glob("*.whl"):
        unpack(wheel, directory / "lib")
    (directory / "ansible.cfg").touch()

    def play(playbook, **variables):
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", HERE / playbook]
        command += [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
        return run_client(command, directory, ansible_environment(directory))

    return play


def unpack(wheel, directory):
    """Unpack a pure wheel; of the hundred collections in the big one only that with the XenServer modules."""
    with zipfile.ZipFile(wheel) as archive:
        wanted = [
            name
            for name in archive.namelist()
            if not name.startswith("ansible_collections/") or name.startswith(COLLECTION)
        ]
        archive.extractall(directory, wanted)


def ansible_environment(directory):
    return {
        "ANSIBLE_COLLECTIONS_PATH": str(directory / "lib"),
        "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "local"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_REMOTE_TEMP": str(directory / "remote"),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(directory / "lib"),
    }
