"""The guest agent: setting passwords, writing files, applying networks, updating itself. Needs the `agent` plugin."""

import base64
import json
import re
from typing import Any

import XenAPI
from oslo_log import log as logging

from nova_lite import exception
from nova_lite.virt.xenapi import errors, instances, plugins
from nova_lite.virt.xenapi.guest_data import GuestData
from nova_lite.virt.xenapi.lookup import VmFinder
from nova_lite.virt.xenapi.simple_dh import PRIME, SimpleDH

LOG = logging.getLogger(__name__)

ADMINISTRATOR_HOME = "/root"
# A guest writes into its xenstore, and so into these replies, what it likes.
LARGEST_REPLY = 64 * 1024
SHOWN_OF_REPLY = 200
SUCCESS, KEY_ACCEPTED, OLD_RESET_DONE = "0", "D0", "500"


def cmp_version(a: str, b: str) -> int:
    """Compare dotted versions number by number; negative, 0, positive. With equal numbers the longer is greater.

    A suffix after a component's digits is left out; a component without digits raises ValueError.
    """
    first, second = _numbers(a), _numbers(b)
    for left, right in zip(first, second, strict=False):
        if left != right:
            return left - right
    return len(first) - len(second)


def _numbers(version: str) -> list[int]:
    return [int(re.sub(r"(?<=\d)\D.*$", "", part)) for part in version.split(".")]


class Agents:
    """Talks to the agents inside guests."""

    def __init__(self, session, finder: VmFinder, guest_data: GuestData, virtapi, conf):
        self._session = session
        self._finder = finder
        self._guest_data = guest_data
        self._virtapi = virtapi
        self._conf = conf

    def enabled_for(self, instance: Any) -> bool:
        """Tell whether the agent of this instance may be used."""
        return instances.wants_agent(instance, self._conf)

    def _demand(self, instance: Any, what: str) -> None:
        if not self.enabled_for(instance):
            raise NotImplementedError(f"{what} needs the guest agent, which is not enabled for this instance")

    # Requests -------------------------------------------------------------------------------------------------

    def get_agent_version(self, instance: Any, vm_ref: str | None = None) -> str | None:
        """Return the agent's version, waiting agent_version_timeout for a guest that boots; None without answer."""
        deadline = self._session.clock.monotonic() + self._conf.xenserver.agent_version_timeout
        domid = None
        while True:
            reply = self._call(instance, "version", vm_ref=vm_ref)
            if reply["returncode"] == SUCCESS:
                return shown(_cleaned(reply["message"]))
            if reply["returncode"] == "notimplemented" or self._session.clock.monotonic() >= deadline:
                LOG.warning("The agent of %s does not tell its version: %s", self._finder.name(instance),
                            shown(reply["message"]))
                return None
            current = self._domid(instance, vm_ref)
            if domid is not None and current != domid:
                LOG.info("%s was rebooted meanwhile: domain %s became %s", self._finder.name(instance), domid, current)
            domid = current
            self._session.clock.sleep(1)

    def agent_update(self, instance: Any, url: str, md5sum: str, vm_ref: str | None = None) -> str | None:
        """Have the agent replace itself; returns its message, None when it refused."""
        reply = self._call(instance, "agentupdate", {"url": url, "md5sum": md5sum}, vm_ref)
        if reply["returncode"] != SUCCESS:
            LOG.error("The agent of %s does not update itself: %s", self._finder.name(instance),
                      shown(reply["message"]))
            return None
        return shown(_cleaned(reply["message"]))

    def set_admin_password(self, instance: Any, new_pass: str, vm_ref: str | None = None) -> str:
        """Set the administrator's password; returns the agent's message. Raises AgentError, NotImplementedError."""
        self._demand(instance, "setting the password")
        exchange = SimpleDH()
        exchange._digest = self._conf.xenserver.agent_key_digest
        reply = self._require(self._call(instance, "key_init", {"pub": str(exchange.get_public())}, vm_ref),
                              "key_init", KEY_ACCEPTED)
        exchange.compute_shared(_public_key(reply["message"]))
        # Some agents expect the line end; those that do not strip it.
        sealed = exchange.encrypt(f"{new_pass}\n")
        reply = self._require(self._call(instance, "password", {"enc_pass": sealed}, vm_ref), "password", SUCCESS,
                              new_pass)
        return shown(_cleaned(reply["message"]), secret=new_pass)

    def inject_file(self, instance: Any, path: str | bytes, contents: str | bytes, vm_ref: str | None = None) -> str:
        """Write a file in the guest; returns the agent's message. Raises NotImplementedError when it cannot."""
        self._demand(instance, "writing a file")
        arguments = {"b64_path": _base64(path), "b64_contents": _base64(contents)}
        reply = self._call(instance, "inject_file", arguments, vm_ref)
        if reply["returncode"] != SUCCESS:
            raise NotImplementedError(f"the guest agent did not write the file: {shown(reply['message'])}")
        return shown(_cleaned(reply["message"]))

    def reset_network(self, instance: Any, vm_ref: str | None = None) -> None:
        """Have the guest apply its host name and network configuration. Raises AgentError, NotImplementedError."""
        self._demand(instance, "resetting the network")
        if vm_ref is None:
            vm_ref = self._finder.require(instance)
        hostname = instances.read(instance, "hostname")
        if hostname:
            self._guest_data.set_hostname(instance, vm_ref, hostname)
        try:
            self._apply_network(instance, vm_ref)
        finally:
            self._guest_data.forget_hostname(vm_ref)

    def _apply_network(self, instance: Any, vm_ref: str) -> None:
        reply = self._call(instance, "resetnetwork", vm_ref=vm_ref,
                           timeout_s=self._conf.xenserver.agent_resetnetwork_timeout)
        if reply["returncode"] not in (SUCCESS, OLD_RESET_DONE):
            self._fail(reply, "resetnetwork")

    # After the first boot -------------------------------------------------------------------------------------

    def configure_new(self, build: Any) -> None:
        """Give a guest that just booted its key, files, password and network; none of it can fail the build."""
        instance, vm_ref = build.instance, build.vm_ref
        if not self.enabled_for(instance):
            return
        version = self.get_agent_version(instance, vm_ref)
        if version is None:
            return
        properties = instances.metadata_of(instance, "system_metadata")
        if build.os_type != "windows" and instances.read(instance, "key_data") and not _says(
                properties, "image_xenapi_skip_agent_inject_ssh"):
            self._attempt(build, self._inject_key, instance, vm_ref)
        if not _says(properties, "image_xenapi_skip_agent_inject_files_at_boot"):
            for path, contents in files_to_inject(build.injected_files):
                self._attempt(build, self.inject_file, instance, path, contents, vm_ref)
        if build.admin_password:
            self._attempt(build, self.set_admin_password, instance, build.admin_password, vm_ref)
        self._attempt(build, self._apply_network, instance, vm_ref)
        self._attempt(build, self._guest_data.forget_hostname, vm_ref)
        self._attempt(build, self._update_if_old, build, version)

    def _inject_key(self, instance: Any, vm_ref: str) -> None:
        key = instances.read(instance, "key_data").strip()
        self.inject_file(instance, f"{ADMINISTRATOR_HOME}/.ssh/authorized_keys",
                         f"\n# The following ssh key was injected by Nova\n{key}\n", vm_ref)

    def _update_if_old(self, build: Any, version: str) -> None:
        try:
            newest = self._virtapi.agent_build_get_by_triple(
                build.context, "xen", build.os_type, instances.read(build.instance, "architecture"))
        except NotImplementedError:
            return
        if newest and cmp_version(version, newest["version"]) < 0:
            self.agent_update(build.instance, newest["url"], newest["md5hash"], build.vm_ref)

    def _attempt(self, build: Any, function, *args) -> None:
        try:
            function(*args)
        except (exception.NovaException, NotImplementedError, RuntimeError, ValueError, XenAPI.Failure) as error:
            LOG.warning("Setting up %s through its agent: %s", build.name_label, error)
            try:
                self._virtapi.instance_fault_create(build.context, build.instance, error, None)
            except NotImplementedError:
                LOG.debug("no compute service above to keep the fault")

    # The protocol ---------------------------------------------------------------------------------------------

    def _call(self, instance: Any, function: str, arguments: dict[str, str] | None = None, vm_ref: str | None = None,
              timeout_s: float | None = None) -> dict[str, str]:
        """Return {'returncode', 'message'}; problems on the way have the codes timeout, notimplemented, error."""
        domid = self._domid(instance, vm_ref)
        reply = self._call_domain(function, domid, arguments or {}, timeout_s)
        if reply["returncode"] == "reboot":
            domid = self._wait_for_new_domain(instance, vm_ref, domid)
            reply = self._call_domain(function, domid, arguments or {}, timeout_s)
        return reply

    def _call_domain(self, function, domid, arguments, timeout_s) -> dict[str, str]:
        request = {"id": self._session.new_request_id(), "dom_id": str(domid),
                   "timeout": str(int(timeout_s or self._conf.xenserver.agent_timeout)), **arguments}
        try:
            text = self._session.call_plugin("agent", function, request)
        except XenAPI.Failure as failure:
            if plugins.is_missing(failure):
                return {"returncode": "notimplemented", "message": "the agent plugin is not installed on the host"}
            return _failed(errors.last_line(failure))
        try:
            if len(text) > LARGEST_REPLY:
                raise ValueError("the reply is too long")
            reply = json.loads(text)
            return {"returncode": shown(str(reply["returncode"]), 40), "message": str(reply.get("message", ""))}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {"returncode": "error", "message": "unable to deserialize response"}

    def _domid(self, instance: Any, vm_ref: str | None) -> int:
        if vm_ref is None:
            vm_ref = self._finder.require(instance)
        return int(self._session.call_xenapi("VM.get_record", vm_ref)["domid"])

    def _wait_for_new_domain(self, instance: Any, vm_ref: str | None, old_domid: int) -> int:
        deadline = self._session.clock.monotonic() + self._conf.xenserver.agent_timeout
        while self._session.clock.monotonic() < deadline:
            domid = self._domid(instance, vm_ref)
            if domid not in (-1, old_domid):
                return domid
            self._session.clock.sleep(1)
        return old_domid

    def _require(self, reply: dict[str, str], function: str, code: str, secret: str = "") -> dict[str, str]:
        if reply["returncode"] != code:
            self._fail(reply, function, secret)
        return reply

    @staticmethod
    def _fail(reply: dict[str, str], function: str, secret: str = "") -> None:
        if reply["returncode"] == "timeout":
            raise exception.AgentTimeout(method=function)
        if reply["returncode"] == "notimplemented":
            raise exception.AgentNotImplemented(method=function)
        raise exception.AgentError(f"The guest agent answered {function} with {reply['returncode']}: "
                                   f"{shown(reply['message'], secret=secret)}")


def _failed(text: str) -> dict[str, str]:
    for mark, code in (("TIMEOUT:", "timeout"), ("REBOOT:", "reboot"), ("NOT IMPLEMENTED:", "notimplemented")):
        if mark in text:
            return {"returncode": code, "message": text}
    return {"returncode": "error", "message": text}


def _public_key(message: str) -> int:
    try:
        public = int(_cleaned(message))
    except ValueError:
        raise exception.AgentError("The guest agent sent no public key") from None
    if not 1 < public < PRIME - 1:
        raise exception.AgentError("The guest agent sent a public key outside the group")
    return public


def shown(text: str, length: int = SHOWN_OF_REPLY, secret: str = "") -> str:
    """Return what a guest said as it may be shown: one printable line of bounded length, without the secret."""
    if secret:
        text = text.replace(secret, "***")
    line = "".join(character if character.isprintable() else "?" for character in text[:length + 1])
    return line if len(line) <= length else line[:length] + "..."


def _cleaned(message: str) -> str:
    """Old Windows agents end their messages with these four characters."""
    return message.replace("\\r\\n", "")


def _base64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _says(properties: dict[str, str], name: str) -> bool:
    return str(properties.get(name, "")).lower() in ("true", "1", "yes", "on")


def files_to_inject(injected_files: Any) -> list[tuple[Any, Any]]:
    """Return (path, contents) pairs; JSON text is read, text that is none is logged and left out."""
    if not injected_files:
        return []
    if isinstance(injected_files, str):
        try:
            injected_files = json.loads(injected_files)
        except ValueError:
            LOG.error("The injected files are no JSON, leaving them out")
            return []
    return [(path, contents) for path, contents in injected_files]
