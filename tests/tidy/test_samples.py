"""The sample configurations."""

import subprocess
import sys

import pytest

from nova_lite import conf as configuration
from tests.tidy.source import REPOSITORY

SAMPLES = REPOSITORY / "etc" / "nova_lite"


def test_samples_are_what_the_options_say():
    done = subprocess.run(
        [sys.executable, "tools/genconfig.py", "--check"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "cell", "cell_type"),
    [("api-cell.conf", "api", "api"), ("child-cell.conf", "west", "compute"), ("compute.conf", "west", "compute")],
)
def test_samples_load_and_set_their_role(name, cell, cell_type):
    conf = configuration.load(prog="nova-cells", config_files=[str(SAMPLES / name)], config_dirs=[])

    assert (conf.cells.enable, conf.cells.name, conf.cells.cell_type) == (True, cell, cell_type)
    assert conf.transport_url.endswith(f"/{cell}")
    assert configuration.unknown_options(conf) == []


def test_the_compute_sample_names_its_host():
    conf = configuration.load(prog="nova-compute", config_files=[str(SAMPLES / "compute.conf")], config_dirs=[])

    assert conf.xenserver.connection_url.startswith("https://")
    assert conf.compute_driver.endswith("XenAPIDriver")
