"""The plugins, run the way the host runs them: one XML-RPC argument, one XML-RPC answer on standard output."""

import base64
import json
import os
import pathlib
import stat
import subprocess
import sys
import textwrap
import threading
import xmlrpc.client
import zlib

import pytest

import nova_lite.virt.xenapi.dom0

PLUGINS = pathlib.Path(nova_lite.virt.xenapi.dom0.__file__).parent

HELPER = '''
import sys, xmlrpc.client
def dispatch(table):
    (session, args), name = xmlrpc.client.loads(sys.argv[1])
    try:
        answer = {"Status": "Success", "Value": table[name](None, args)}
    except Exception as error:
        answer = {"Status": "Failure",
                  "ErrorDescription": ["XENAPI_PLUGIN_FAILURE", name, type(error).__name__, str(error)]}
    print(xmlrpc.client.dumps((answer,), methodresponse=True))
'''

XENSTORE = '''
#!{python}
import os, pathlib, shutil, sys
root = pathlib.Path(os.environ["XENSTORE"])
tool, path = os.path.basename(sys.argv[0]), root / sys.argv[1].lstrip("/")
value = path / ".value"
if tool == "xenstore-read":
    if not value.exists():
        sys.exit("couldn't read path " + sys.argv[1])
    print(value.read_text())
elif tool == "xenstore-write":
    path.mkdir(parents=True, exist_ok=True)
    (path / ".new").write_text(sys.argv[2])
    (path / ".new").rename(value)
elif tool == "xenstore-list":
    if not path.exists():
        sys.exit("could not list path " + sys.argv[1])
    print("\\n".join(sorted(entry.name for entry in path.iterdir() if entry.is_dir())))
elif tool == "xenstore-rm":
    shutil.rmtree(path, ignore_errors=True)
'''


class Dom0:
    """A dom0 with xenstore tools that keep their tree in a folder."""

    def __init__(self, folder):
        self.root = folder / "xenstore"
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "XenAPIPlugin.py").write_text(HELPER)
        for tool in ("read", "write", "list", "rm"):
            program = self.bin / f"xenstore-{tool}"
            program.write_text(XENSTORE.strip().format(python=sys.executable))
            program.chmod(0o755)

    def call(self, plugin, function, **args):
        request = xmlrpc.client.dumps(("OpaqueRef:session", args), function)
        env = {"PATH": f"{self.bin}:{os.environ['PATH']}", "PYTHONPATH": str(self.bin), "XENSTORE": str(self.root)}
        done = subprocess.run([sys.executable, str(PLUGINS / plugin), request], capture_output=True, text=True, env=env,
                              check=False)
        assert done.returncode == 0, done.stderr
        (answer,), _ = xmlrpc.client.loads(done.stdout)
        if answer["Status"] == "Failure":
            raise RuntimeError(answer["ErrorDescription"])
        return answer["Value"]

    def write(self, path, text):
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".value").write_text(text)

    def names(self, path):
        folder = self.root / path
        return [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.exists() else []


@pytest.fixture
def dom0(tmp_path):
    dom0 = Dom0(tmp_path)
    dom0.write("local/domain/7/name", "guest")
    return dom0


class Guest:
    """An agent that answers every request from a table {command: (code, message)}."""

    def __init__(self, dom0, answers):
        self.dom0, self.answers, self.requests = dom0, answers, []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *details):
        self._stop.set()
        self._thread.join()

    def _work(self):
        while not self._stop.wait(0.01):
            for request_id in self.dom0.names("local/domain/7/data/host"):
                value = self.dom0.root / f"local/domain/7/data/host/{request_id}/.value"
                if not value.exists():
                    continue
                request = json.loads(value.read_text())
                value.unlink()
                value.parent.rmdir()
                self.requests.append(request)
                code, message = self.answers[request["name"]]
                self.dom0.write(f"local/domain/7/data/guest/{request_id}",
                                json.dumps({"returncode": code, "message": message}))


def test_every_plugin_is_executable_and_needs_the_standard_library_alone():
    for path in PLUGINS.glob("*.py"):
        text = path.read_text()
        if "XenAPIPlugin.dispatch" in text:
            assert path.stat().st_mode & stat.S_IXUSR, path.name
            assert text.startswith("#!/usr/bin/env python3"), path.name
        imports = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith("import ")}
        siblings = {path.stem for path in PLUGINS.glob("*.py")}
        assert imports <= set(sys.stdlib_module_names) | {"XenAPI", "XenAPIPlugin"} | siblings, path.name


def test_a_record_that_is_written_is_read(dom0):
    dom0.call("xenstore.py", "write_record", dom_id="7", path="vm-data/a", value='{"x": 1}')
    assert json.loads(dom0.call("xenstore.py", "read_record", dom_id="7", path="vm-data/a")) == {"x": 1}


def test_text_that_is_no_json_is_quoted(dom0):
    dom0.write("local/domain/7/vm-data/hostname", "guest-1")
    assert dom0.call("xenstore.py", "read_record", dom_id="7", path="vm-data/hostname") == '"guest-1"'


def test_a_missing_record_is_an_error_unless_it_is_to_be_ignored(dom0):
    assert dom0.call("xenstore.py", "read_record", dom_id="7", path="no", ignore_missing_path="True") == '"None"'
    with pytest.raises(RuntimeError):
        dom0.call("xenstore.py", "read_record", dom_id="7", path="no", ignore_missing_path="False")


def test_defect_24_listing_works(dom0):
    dom0.write("local/domain/7/vm-data/a/b", "1")
    dom0.write("local/domain/7/vm-data/c", "text")
    assert json.loads(dom0.call("xenstore.py", "list_records", dom_id="7", path="vm-data")) == {"a/b": 1, "c": "text"}
    assert json.loads(dom0.call("xenstore.py", "list_records", dom_id="7", path="nothing")) == {}


def test_deleting_twice_is_no_error(dom0):
    dom0.write("local/domain/7/vm-data/c", "text")
    dom0.call("xenstore.py", "delete_record", dom_id="7", path="vm-data/c")
    dom0.call("xenstore.py", "delete_record", dom_id="7", path="vm-data/c")
    assert dom0.names("local/domain/7/vm-data") == []


@pytest.mark.parametrize("args", [{"dom_id": "7"}, {"dom_id": "../0", "path": "a"}, {"dom_id": "7", "path": "../0/a"}])
def test_arguments_that_reach_for_other_domains_are_refused(dom0, args):
    with pytest.raises(RuntimeError, match="ArgumentError"):
        dom0.call("xenstore.py", "read_record", **args)


def test_defect_25_an_answer_of_the_agent_is_returned_and_removed(dom0):
    with Guest(dom0, {"version": ("0", "1.39.1")}) as guest:
        answer = dom0.call("agent.py", "version", dom_id="7", id="r1", timeout="5")
    assert json.loads(answer) == {"returncode": "0", "message": "1.39.1"}
    assert guest.requests == [{"name": "version", "value": "agent"}]
    assert dom0.names("local/domain/7/data/guest") == [] == dom0.names("local/domain/7/data/host")


def test_an_agent_that_does_not_answer_times_out_and_its_request_is_removed(dom0):
    with pytest.raises(RuntimeError, match="TIMEOUT: No response from agent within 0 seconds"):
        dom0.call("agent.py", "version", dom_id="7", id="r1", timeout="0.1")
    assert dom0.names("local/domain/7/data/host") == []


def test_a_domain_that_went_away_is_told(dom0):
    with pytest.raises(RuntimeError, match="REBOOT: dom_id 8 no longer present"):
        dom0.call("agent.py", "version", dom_id="8", id="r1", timeout="5")


@pytest.mark.parametrize(("features", "command"), [("features,file_inject", "file_inject"),
                                                   ("features,injectfile", "injectfile")])
def test_a_file_goes_in_by_the_command_the_agent_has(dom0, features, command):
    path, contents = base64.b64encode(b"/etc/motd").decode(), base64.b64encode(b"hello").decode()
    with Guest(dom0, {"features": ("0", features), command: ("0", "done")}) as guest:
        dom0.call("agent.py", "inject_file", dom_id="7", id="r1", timeout="5", b64_path=path, b64_contents=contents)
    value = guest.requests[1]["value"]
    if command == "file_inject":
        assert value == {"b64_path": path, "b64_file": contents}
    else:
        assert base64.b64decode(value) == b"/etc/motd,hello"


def test_an_agent_that_takes_no_files_says_so(dom0):
    with Guest(dom0, {"features": ("0", "features,version")}), pytest.raises(RuntimeError, match="NOT IMPLEMENTED"):
        dom0.call("agent.py", "inject_file", dom_id="7", id="r1", timeout="5", b64_path="YQ==", b64_contents="YQ==")


def test_the_end_of_a_console_log_comes_compressed(dom0, tmp_path):
    log = tmp_path / "console.7"
    log.write_bytes(b"x" * 200000 + b"login:")
    script = textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(PLUGINS)!r}, {str(dom0.bin)!r}]
        import console
        console.LOG_FILE = {str(tmp_path / "console.{}")!r}
        print(console.get_console_log(None, {{"dom_id": "7"}}))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    text = zlib.decompress(base64.b64decode(done.stdout))
    assert len(text) == 102400 and text.endswith(b"login:")


def test_the_version_is_told(dom0):
    assert json.loads(dom0.call("nova_lite_version.py", "get_version")) == "3.2"
