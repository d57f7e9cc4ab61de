"""Passwords in the URLs of brokers: shown to nobody."""

import re
from typing import Any

MASK = "***"
_PASSWORD = re.compile(r"(?<=:)[^:@/,]*(?=@)")


def mask_password(transport_url: str) -> str:
    """Return the URL with each password replaced by '***'."""
    return _PASSWORD.sub(MASK, transport_url)


def without_password(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table `cells` as it may be shown."""
    shown = {key: value for key, value in dict(row).items() if key != "shared_key"}
    if shown.get("transport_url"):
        shown["transport_url"] = mask_password(shown["transport_url"])
    return shown


def with_stored_password(url: str, stored_url: str) -> str:
    """Return the URL with the passwords of the stored one where it has '***'."""
    passwords = iter(_PASSWORD.findall(stored_url))
    return _PASSWORD.sub(lambda found: next(passwords, "") if found.group() == MASK else found.group(), url)
