"""A VM's xenstore: the part in the xapi database (param) and the tree of the running domain (live)."""

import json
from typing import Any

import XenAPI

from nova_lite import exception
from nova_lite.virt.xenapi import errors, plugins
from nova_lite.virt.xenapi.lookup import VmFinder


class ParamXenstore:
    """VM.xenstore_data: copied into the domain when it is built, keeps over reboots. Values are JSON text."""

    def __init__(self, session, finder: VmFinder):
        self._session = session
        self._finder = finder

    def read(self, instance_or_vm: Any, keys: Any = None) -> dict[str, Any]:
        """Return {key: value} of all keys, one (text) or several (list); a missing one is None."""
        raw = self._raw(instance_or_vm)
        wanted = raw if keys is None else [keys] if isinstance(keys, str) else keys
        return {key: decoded(raw.get(key)) for key in wanted}

    def read_partial(self, instance_or_vm: Any, key_prefix: str) -> dict[str, Any]:
        """Return {key: value} of the keys that begin with the prefix."""
        return {key: decoded(value) for key, value in self._raw(instance_or_vm).items() if key.startswith(key_prefix)}

    def _raw(self, instance_or_vm: Any) -> dict[str, str]:
        vm_ref = self._finder.resolve(instance_or_vm)
        return self._session.call_xenapi_request("VM.get_xenstore_data", (vm_ref,))

    def add(self, instance_or_vm: Any, key: str, value: Any) -> None:
        """Set one key."""
        self.set_text(self._finder.resolve(instance_or_vm), key, json.dumps(value))

    def set_text(self, vm_ref: str, key: str, text: str) -> None:
        """Set one key to text as it stands."""
        with self._session.locks.hold(f"xenstore-{vm_ref}"):
            self._session.put_in_map("VM.xenstore_data", vm_ref, key, text)

    def write(self, instance_or_vm: Any, mapping: dict[str, Any]) -> None:
        """Set several keys."""
        vm_ref = self._finder.resolve(instance_or_vm)
        for key, value in mapping.items():
            self.set_text(vm_ref, key, json.dumps(value))

    def remove(self, instance_or_vm: Any, key_or_keys: Any) -> None:
        """Remove one key (text) or several; missing ones are no error."""
        vm_ref = self._finder.resolve(instance_or_vm)
        for key in [key_or_keys] if isinstance(key_or_keys, str) else key_or_keys:
            self._session.call_xenapi_request("VM.remove_from_xenstore_data", (vm_ref, key))

    def clear(self, instance_or_vm: Any) -> None:
        """Remove all keys."""
        vm_ref = self._finder.resolve(instance_or_vm)
        self._session.call_xenapi_request("VM.set_xenstore_data", (vm_ref, {}))


def decoded(text: str | None) -> Any:
    """Return the JSON value of the text; text that is none (the hostname) as it stands."""
    if not text:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


class LiveXenstore:
    """The tree of the running domain, reached through the dom0 plugin `xenstore.py`. `vm` is an instance.

    A plugin failure raises PluginError, a VM that does not run InstanceNotFound.
    """

    def __init__(self, session, finder: VmFinder):
        self._session = session
        self._finder = finder

    def list(self, vm: Any, path: str) -> dict[str, Any] | None:
        """Return {sub-path: value} of everything below the path, or None when there is nothing."""
        return self._call(vm, "list_records", path) or None

    def read(self, vm: Any, path: str) -> Any:
        """Return the value at the path, or None."""
        value = self._call(vm, "read_record", path, ignore_missing_path="True")
        return None if value == "None" else value

    def write(self, vm: Any, path: str, value: Any) -> Any:
        """Set the value at the path."""
        return self._call(vm, "write_record", path, value=json.dumps(value))

    def add(self, vm: Any, path: str, key: str, value: Any) -> None:
        """Set one key of the dict at the path."""
        current = self.read(vm, path) or {}
        current[key] = value
        self.write(vm, path, current)

    def remove(self, vm: Any, path: str, key_or_keys: Any) -> None:
        """Remove keys below the path, the deepest first; missing ones are no error."""
        existing = self.list(vm, path)
        if not existing:
            return
        keys = [key_or_keys] if isinstance(key_or_keys, str) else list(key_or_keys)
        for key in sorted(keys, key=lambda key: key.count("/"), reverse=True):
            self._call(vm, "delete_record", f"{path}/{key}" if path else key)

    def clear(self, vm: Any, path: str) -> None:
        """Remove everything at the path."""
        self._call(vm, "delete_record", path)

    def _call(self, vm: Any, function: str, path: str, **extra: str) -> Any:
        domid = self._finder.fresh(self._finder.require(vm)).domid
        if domid < 0:
            raise exception.InstanceNotFound(instance_id=self._finder.name(vm))
        try:
            text = self._session.call_plugin("xenstore.py", function, {"dom_id": str(domid), "path": path, **extra})
        except XenAPI.Failure as failure:
            if errors.is_code(failure, *plugins.PLUGIN_FAILURES, *plugins.MISSING):
                raise exception.PluginError(reason=f"xenstore.{function}: {errors.last_line(failure)}") from failure
            raise
        return decoded(text)
