"""Each host's dom0 as plugins see it: a process of their own, XenAPIPlugin, a local socket, the xenstore tools.

For every host a small tree of files is made: `bin` with the xenstore tools, `lib` with the helper modules, `xapi` the
local XenAPI socket, `xenstored` that of xenstore, `xenstore-tools` the one that the tools use.
"""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError
from xmlrpc.client import Fault, dumps, loads

from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call
from nova_lite.xensim.scratch import Scratch
from nova_lite.xensim.visitors import StoreError, Visitor
from nova_lite.xensim.xenstore import XenStore
from nova_lite.xensim.xenstored import Connection

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack

TOOLS = ("read", "write", "rm", "list", "ls", "exists", "chmod")
TOOL_TEXT = """#!{python} -SEs
import _socket, os, sys
client = _socket.socket(_socket.AF_UNIX)
client.connect({path!r})
client.sendall("\\0".join([{tool!r}] + sys.argv[1:]).encode("utf-8", "surrogateescape") + b"\\0\\n")
client.shutdown(_socket.SHUT_WR)
answer = b""
while True:
    piece = client.recv(65536)
    if not piece:
        break
    answer += piece
status, out, err = answer.split(b"\\0")
os.write(1, out)
os.write(2, err)
os._exit(int(status))
"""
CLIENT_TEXT = '''"""What plugins meet of XenServer's client: the session they are given, and what its calls raise."""
import socket
import xmlrpc.client
from http.client import HTTPConnection

SOCKET = {path!r}


class Failure(Exception):
    def __init__(self, details):
        self.details = details

    def __str__(self):
        return str(self.details)


class _Connection(HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET)


class _Transport(xmlrpc.client.Transport):
    def make_connection(self, host):
        return _Connection("localhost")


class _Calls:
    def __init__(self, session, name=""):
        self._session = session
        self._name = name

    def __getattr__(self, part):
        return _Calls(self._session, self._name + "." + part if self._name else part)

    def __call__(self, *arguments):
        return self._session.xenapi_request(self._name, arguments)


class Session:
    def __init__(self, handle):
        self.handle = self._session = handle
        self._proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(), allow_none=True)
        self.xenapi = _Calls(self)

    def xenapi_request(self, name, arguments):
        result = getattr(self._proxy, name)(self._session, *arguments)
        if result["Status"] != "Success":
            raise Failure(result["ErrorDescription"])
        return result["Value"]
'''
HELPER_TEXT = '''"""What XenServer gives its plugins: dispatch(), Failure, and a session of the caller."""
import sys
import xmlrpc.client

import XenAPI


class Failure(Exception):
    def __init__(self, code, params):
        super().__init__(code, params)
        self.params = [code] + list(params)


def _success(value):
    return {"Status": "Success", "Value": value}


def _failure(description):
    return {"Status": "Failure", "ErrorDescription": [str(each) for each in description]}


def dispatch(functions):
    if len(sys.argv) != 2:
        raise SystemExit("one argument is expected, an XML-RPC call")
    (handle, arguments), name = xmlrpc.client.loads(sys.argv[1])
    try:
        if name not in functions:
            answer = _failure(["UNKNOWN_XENAPI_PLUGIN_FUNCTION", name])
        else:
            answer = _success(functions[name](XenAPI.Session(handle), arguments))
    except Failure as error:
        answer = _failure(error.params)
    except Exception as error:
        # An error of the API is one among others: its class is XenAPI's Failure, its text the list of its details.
        answer = _failure(["XENAPI_PLUGIN_FAILURE", name, type(error).__name__, str(error)])
    sys.stdout.write(xmlrpc.client.dumps((answer,), methodresponse=True, allow_none=True))
'''


class Dom0(Noun):
    """Runs plugins. `plugin_directory` stands for /etc/xapi.d/plugins of every host."""

    def __init__(self, toolstack: "Toolstack", plugin_directory: str | None):
        super().__init__(toolstack)
        self.plugin_directory = plugin_directory
        # Unix socket paths are short: not below the state directory, whose path may be long.
        self._scratch = Scratch("xensim-dom0-")
        self._sockets: dict[str, list[socket.socket]] = {}  # of each host that has run a program, and its programs

    def socket_path(self, host_ref: str) -> str:
        """Return the path of a host's local XenAPI socket."""
        return os.path.join(self._root(host_ref), "xapi")

    def _root(self, host_ref: str) -> str:
        path = os.path.join(self._scratch.path, self.db.get("host", host_ref, "uuid")[:8])
        os.makedirs(os.path.join(path, "bin"), exist_ok=True)
        os.makedirs(os.path.join(path, "lib"), exist_ok=True)
        return path

    def stop(self) -> None:
        for sock in [each for sockets in self._sockets.values() for each in sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # the serving thread then closes it
        self._scratch.remove()

    def _prepare(self, host_ref: str) -> str:
        """Make the files a plugin on the host needs; return its root directory."""
        root = self._root(host_ref)
        if host_ref not in self._sockets:
            self._sockets[host_ref] = []
            path = os.path.join(root, "xenstore-tools")
            self._listen(host_ref, path, self._serve_tool)
            self._listen(host_ref, os.path.join(root, "xenstored"), self._serve_library)
            with contextlib.suppress(FileExistsError):
                os.symlink(os.path.realpath(sys.executable), os.path.join(root, "bin", "python3"))
            for tool in TOOLS:
                tool_path = os.path.join(root, "bin", f"xenstore-{tool}")
                with open(tool_path, "w") as file:
                    file.write(TOOL_TEXT.format(python=sys.executable, tool=tool, path=path))
                os.chmod(tool_path, 0o755)
            client_text = CLIENT_TEXT.format(path=self.socket_path(host_ref))
            for name, text in (("XenAPI", client_text), ("XenAPIPlugin", HELPER_TEXT)):
                with open(os.path.join(root, "lib", f"{name}.py"), "w") as file:
                    file.write(text)
        return root

    def _listen(self, host_ref: str, path: str, serve: Callable[[str, socket.socket], None]) -> None:
        """Serve each client of a Unix socket by a thread of its own."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(64)
        self._sockets[host_ref].append(listener)

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    listener.close()
                    return
                threading.Thread(target=serve, args=(host_ref, client), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def environment(self, host_ref: str) -> dict[str, str]:
        """Return the environment of a program in a host's dom0."""
        root = self._prepare(host_ref)
        return {
            "PATH": f"{root}/bin:/sbin:/usr/sbin:/bin:/usr/bin",
            "PYTHONPATH": f"{root}/lib",
            "PYTHONDONTWRITEBYTECODE": "1",
            "XENSTORED_PATH": f"{root}/xenstored",
        }

    # plugins

    @call("host.call_plugin")
    def call_plugin(self, caller, host_ref, plugin, function, arguments):
        self.db.row("host", host_ref)
        path = self._find(plugin)
        argument = dumps((caller.session_ref, arguments), function)
        environment = self.environment(host_ref)
        with self.toolstack.unlocked():
            try:
                done = subprocess.run(
                    [path, argument], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
                )
            except OSError as error:
                raise ApiError("XENAPI_PLUGIN_FAILURE", "non-zero exit", "", str(error)) from None
        return self._result(done)

    def _find(self, plugin: str) -> str:
        """Return the plugin's path. Raises XENAPI_MISSING_PLUGIN when no executable file has this very name."""
        if self.plugin_directory and plugin and os.path.basename(plugin) == plugin:
            path = os.path.join(self.plugin_directory, plugin)
            with contextlib.suppress(OSError, ValueError):
                mode = os.stat(path).st_mode
                if stat.S_ISREG(mode) and mode & 0o111:
                    return path
        raise ApiError("XENAPI_MISSING_PLUGIN", plugin)

    @staticmethod
    def _result(done: subprocess.CompletedProcess) -> str:
        """Turn what the process left into the call's result. Raises what XenServer makes of a bad one."""
        output, log = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        if done.returncode < 0:
            name = signal.Signals(-done.returncode).name
            raise ApiError("XENAPI_PLUGIN_FAILURE", f"signal: {name}", output, log)
        if done.returncode:
            raise ApiError("XENAPI_PLUGIN_FAILURE", "non-zero exit", output, log)
        try:
            (answer,), _ = loads(output)
        except Fault as fault:
            raise ApiError("XENAPI_PLUGIN_FAILURE", "fault", str(fault.faultCode), fault.faultString) from None
        except (ExpatError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            raise ApiError("XENAPI_PLUGIN_FAILURE", "failed to parse plugin output", output, str(error)) from None
        if isinstance(answer, dict) and answer.get("Status") == "Success" and isinstance(answer.get("Value"), str):
            return answer["Value"]
        if isinstance(answer, dict) and answer.get("Status") == "Failure" and answer.get("ErrorDescription"):
            raise ApiError(*map(str, answer["ErrorDescription"]))
        raise ApiError("XENAPI_PLUGIN_FAILURE", "unexpected XMLRPC result", output)

    # xenstore

    def _serve_library(self, host_ref: str, client: socket.socket) -> None:
        """Serve a program that speaks the protocol of xenstore itself."""
        self._sockets[host_ref].append(client)
        Connection(self.toolstack, host_ref, client).serve()
        self._sockets[host_ref].remove(client)

    def _serve_tool(self, host_ref: str, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError, KeyError):
            tool, *arguments, _end = client.makefile("rb").read().decode("utf-8", "replace").split("\0")
            with self.toolstack.lock:
                store = self.toolstack.domains.store(host_ref)
                status, out, err = run_tool(store, tool, arguments)
            client.sendall("\0".join([str(status), out, err]).encode())


def run_tool(store: XenStore, tool: str, arguments: list[str]) -> tuple[int, str, str]:
    """Do what a xenstore command line tool does; return (exit status, output, errors)."""
    options = {argument for argument in arguments if argument.startswith("-")}
    paths = [argument for argument in arguments if argument not in options or tool == "write"]
    visitor, done = Visitor(store, 0), ""
    try:
        if tool == "write":
            for path, value in zip(paths[::2], paths[1::2], strict=False):
                done = path
                visitor.write(path, value)
            return 0, "", ""
        if tool == "chmod" and paths:
            done = paths[0]
            visitor.set_permissions(paths[0], paths[1:])
            return 0, "", ""
        paths = [path if path == "/" else visitor.absolute(path) for path in paths]
    except StoreError as error:
        return 1, "", f"could not {tool} path {done}: {error}\n"
    out = []
    for path in paths:
        if store.read(path) is None:
            if tool == "exists":
                return 1, "", ""
            verb = {"read": "read", "rm": "remove", "list": "list", "ls": "list"}[tool]
            return 1, "".join(out), f"could not {verb} path {path}\n"
        if tool == "read":
            out.append(f"{path}: {store.read(path)}\n" if "-p" in options else f"{store.read(path)}\n")
        elif tool == "rm":
            store.remove(path)
        elif tool == "list":
            out += [
                f"{path.rstrip('/')}/{name}\n" if "-p" in options else f"{name}\n" for name in store.list(path) or []
            ]
        elif tool == "ls":
            out += [_listed(path, below, value, "-f" in options) for below, value in store.tree(path)]
    return 0, "".join(out), ""


def _listed(path: str, below: str, value: str, is_full: bool) -> str:
    name = f"{path.rstrip('/')}/{below}" if is_full else " " * below.count("/") + below.rpartition("/")[2]
    return f'{name} = "{value}"\n'
