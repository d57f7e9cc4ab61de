"""Names of new instances."""

import re
import secrets
import string
from typing import Any

_ALPHABET = string.digits + string.ascii_lowercase
MAX_HOSTNAME = 63


def reservation_id() -> str:
    """Return a new id that the instances of one request share, as `r-8sq51x0k`."""
    return "r-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def display_names(template: str, name: str | None, uuids: list[str]) -> list[str]:
    """Return the display name of each instance; the template serves only where there are several."""
    if len(uuids) == 1:
        return [name or f"Server {uuids[0]}"]
    return [_from_template(template, {"name": name or f"Server {uuid}", "uuid": uuid, "count": index + 1})
            for index, uuid in enumerate(uuids)]


def _from_template(template: str, values: dict[str, Any]) -> str:
    try:
        return template % values
    except (KeyError, TypeError, ValueError):  # an operator's mistake must not keep anybody from booting
        return f"{values['name']}-{values['count']}"


def hostname_of(display_name: str, uuid: str) -> str:
    """Return what can be made of a display name as a host name; `Server-<uuid>` when that is nothing."""
    text = display_name.encode("latin-1", "ignore").decode("latin-1")
    text = re.sub(r"[ _]", "-", text)
    text = re.sub(r"[^\w.-]+", "", text, flags=re.ASCII).lower().strip(".-")
    return text[:MAX_HOSTNAME].rstrip(".-") or f"server-{uuid}"
