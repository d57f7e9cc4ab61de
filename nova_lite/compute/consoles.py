"""Consoles of guests: their text, and the way to their screens."""

import uuid
from typing import Any

from nova_lite import exception, objects
from nova_lite.compute.host import ComputeHost
from nova_lite.objects import vm_states


class Consoles:
    """Finds consoles at the driver and makes the tokens under which users reach them."""

    def __init__(self, here: ComputeHost) -> None:
        self._here = here

    def output(self, instance: objects.Instance, tail_length: Any) -> str:
        """Return the console's text, all of it or its last `tail_length` lines, in ASCII."""
        text = self._here.driver.get_console_output(instance)
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return last_lines(text, tail_length).encode("ascii", "replace").decode("ascii")

    def vnc(self, instance: objects.Instance, console_type: str) -> dict[str, Any]:
        """Return where the VNC console is, with a fresh token and the URL to use it. Raises ConsoleTypeInvalid."""
        conf = self._here.conf
        urls = {"novnc": conf.novncproxy_base_url, "xvpvnc": conf.xvpvncproxy_base_url} if conf.vnc_enabled else {}
        return self._connect(instance, console_type, urls, self._here.driver.get_vnc_console)

    def spice(self, instance: objects.Instance, console_type: str) -> dict[str, Any]:
        """Return where the SPICE console is, with a fresh token and the URL to use it. Raises ConsoleTypeInvalid."""
        conf = self._here.conf
        urls = {"spice-html5": conf.spice.html5proxy_base_url} if conf.spice.enabled else {}
        return self._connect(instance, console_type, urls, self._here.driver.get_spice_console)

    def _connect(self, instance: objects.Instance, console_type: str, urls: dict[str, str],
                 find: Any) -> dict[str, Any]:
        if console_type not in urls:
            raise exception.ConsoleTypeInvalid(console_type=console_type)
        token = str(uuid.uuid4())
        return {**self._found(instance, find), "token": token, "access_url": f"{urls[console_type]}?token={token}"}

    def port_is_valid(self, instance: objects.Instance, port: Any, console_type: str) -> bool:
        """Tell whether the console of the guest is (still) at this port."""
        spice = console_type == "spice-html5"
        find = self._here.driver.get_spice_console if spice else self._here.driver.get_vnc_console
        return int(self._found(instance, find)["port"]) == int(port)

    def _found(self, instance: objects.Instance, find: Any) -> dict[str, Any]:
        try:
            return find(instance)
        except exception.InstanceNotFound:
            if instance.vm_state == vm_states.BUILDING:
                raise exception.InstanceNotReady(instance_id=instance.uuid) from None
            raise


def last_lines(text: str, tail_length: Any) -> str:
    """Return that many last lines; None: all, nothing for 0 or what is no number."""
    if tail_length is None:
        return text
    try:
        wanted = int(tail_length)
    except (TypeError, ValueError):
        return ""
    return "\n".join(text.split("\n")[-wanted:]) if wanted > 0 else ""
