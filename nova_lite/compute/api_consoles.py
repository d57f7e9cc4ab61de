"""Consoles: what compute says about a guest's screen, and the token that opens it."""

from typing import Any

from nova_lite.context import RequestContext, Services
from nova_lite.objects import Instance


class Consoles:
    """Fetches connect info with `fetch(context, instance, console_type)` and authorises its token."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def authorize(self, context: RequestContext, instance: Instance, console_type: str,
                  connect_info: dict[str, Any]) -> dict[str, str]:
        """Let the token of the connect info open the console; returns `{'url'}`."""
        self._services.console_tokens.authorize_console(
            context, connect_info["token"], console_type, connect_info["host"], connect_info["port"],
            connect_info.get("internal_access_path"), instance.uuid, access_url=connect_info["access_url"])
        return {"url": connect_info["access_url"]}
