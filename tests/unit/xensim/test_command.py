"""nova-lite-xensim as an operator uses it."""

import pytest
import XenAPI

from nova_lite.cmd import xensim as command
from tests.fixtures.processes import run_command
from tests.fixtures.xensim import logged_in, simulator_process


def test_a_fault_is_planted_listed_and_met(xensim, client, capsys):
    planting = ["fault", "fail", "host.get_all", "HOST_BROKEN", "--url", xensim.url]
    assert command.main(planting) == 0
    command.main(["fault", "list", "--url", xensim.url])
    listed = capsys.readouterr().out

    with pytest.raises(XenAPI.Failure) as error:
        client.api.host.get_all()

    assert '"host.get_all"' in listed
    assert error.value.details == ["HOST_BROKEN"]


def test_a_simulator_that_is_not_there_is_one_line(capsys):
    assert command.main(["fault", "list", "--url", "http://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_coverage_counts_calls(capsys):
    assert command.main(["coverage"]) == 0
    assert "calls simulated" in capsys.readouterr().out


def test_an_address_in_use_is_one_line(xensim):
    done = run_command(
        "nova_lite.cmd.xensim", "--listen", xensim.url.removeprefix("http://"), "--hosts", "1", check=False
    )

    assert done.returncode == 1
    assert done.stderr.startswith("nova-lite-xensim: cannot listen on")
    assert done.stderr.count("\n") == 1


def test_several_hosts_listen_and_the_process_ends_on_request(tmp_path):
    with simulator_process(tmp_path, hosts=2) as process:
        with logged_in(process) as session:
            assert len(session.xenapi.host.get_all()) == 2
        process.control.fail("VM.start", error=["INTERNAL_ERROR", "x"])

        assert process.control.faults()[0]["method"] == "VM.start"
        assert process.terminate(timeout_s=20) == 0
