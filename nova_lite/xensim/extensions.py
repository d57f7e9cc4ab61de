"""Extensions: calls whose work is a program in dom0, found by the call's name."""

import os
import stat
import subprocess
from typing import TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError
from xmlrpc.client import Fault, dumps, loads

from nova_lite.xensim.errors import ApiError
from nova_lite.xensim.noun import Noun, call

if TYPE_CHECKING:
    from nova_lite.xensim.toolstack import Toolstack


class Extensions(Noun):
    """Runs the files of `directory`, which stands for /etc/xapi.d/extensions of every host."""

    def __init__(self, toolstack: "Toolstack"):
        super().__init__(toolstack)
        self.directory: str | None = None

    def find(self, name: str) -> str | None:
        """Return the path of the executable file of this very name, None when there is none."""
        if not self.directory or os.path.basename(name) != name:
            return None
        path = os.path.join(self.directory, name)
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            return None
        return path if stat.S_ISREG(mode) and mode & 0o111 else None

    def run(self, name: str, parameters: list[Any], host_ref: str) -> Any:
        """Let the extension of this name answer a call. Raises MESSAGE_METHOD_UNKNOWN, or what it answers."""
        path = self.find(name)
        if path is None:
            raise ApiError("MESSAGE_METHOD_UNKNOWN", name)
        request = dumps(tuple(parameters), name, allow_none=True).encode()
        environment = self.toolstack.dom0.environment(host_ref)
        with self.toolstack.unlocked():
            try:
                done = subprocess.run(
                    [path, "--xmlrpc"], env=environment, input=request, capture_output=True, check=False
                )
            except OSError as error:
                raise ApiError("EXTENSION_PROTOCOL_FAILURE", name, str(error)) from None
        if done.returncode:
            raise ApiError("INTERNAL_ERROR", f"extension {name} exited with {done.returncode}")
        return self._result(name, done.stdout.decode("utf-8", "replace"))

    @staticmethod
    def _result(name: str, output: str) -> Any:
        try:
            (answer,), _ = loads(output)
        except Fault as fault:
            raise ApiError("INTERNAL_ERROR", str(fault.faultCode), fault.faultString) from None
        except (ExpatError, ValueError, TypeError, AttributeError, IndexError, KeyError):
            raise ApiError("EXTENSION_PROTOCOL_FAILURE", name, output) from None
        if isinstance(answer, dict) and answer.get("Status") == "Success" and "Value" in answer:
            return answer["Value"]
        if isinstance(answer, dict) and answer.get("Status") == "Failure" and answer.get("ErrorDescription"):
            raise ApiError(*map(str, answer["ErrorDescription"]))
        raise ApiError("EXTENSION_PROTOCOL_FAILURE", name, output)

    @call("host.call_extension")
    def call_extension(self, caller, host_ref, name):
        self.db.row("host", host_ref)
        return str(self.run(name, [caller.session_ref], host_ref))

    @call("host.has_extension")
    def host_has_extension(self, _caller, host_ref, name):
        self.db.row("host", host_ref)
        return self.find(name) is not None

    @call("pool.has_extension")
    def pool_has_extension(self, _caller, pool_ref, name):
        self.db.row("pool", pool_ref)
        return self.find(name) is not None
