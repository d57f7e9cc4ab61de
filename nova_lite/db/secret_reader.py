"""Opening the secrets of neighbours without a cryptography library in this process."""

import json
import subprocess
import sys
from collections.abc import Iterable

from nova_lite.db.secrets import SecretBox

_LIBRARY = "cryptography.fernet"
_CHILD_LIMIT_S = 10
_CHILD = """
import json, sys
from cryptography.fernet import Fernet
key, texts = json.load(sys.stdin)
json.dump([Fernet(key).decrypt(text.encode()).decode() for text in texts], sys.stdout)
"""


class SecretReader:
    """Opens texts that a SecretBox closed, each once.

    A daemon reads the same few secrets again and again, and only reads them. The library for it takes 7 MB of memory
    for good; so where it is not loaded anyway, a short-lived child process opens what is new.
    """

    def __init__(self, box: SecretBox):
        self._box = box
        self._known: dict[str, str] = {}

    def open_all(self, stored: Iterable[str | None]) -> dict[str | None, str | None]:
        """Return {stored text: open text}; what was open before is forgotten unless it is asked for again.

        Raises ConfigurationError.
        """
        texts = set(stored)
        closed = {text for text in texts if text is not None and self._box.is_closed(text)}
        new = sorted(closed - self._known.keys())
        known = {**self._known, **(dict(zip(new, self._opened(new), strict=True)) if new else {})}
        self._known = {text: known[text] for text in closed}
        return {text: text if text is None else self._known.get(text, text) for text in texts}

    def _opened(self, texts: list[str]) -> list[str]:
        found = None if _LIBRARY in sys.modules else self._opened_by_child(texts)
        return found or [self._box.open(text) or "" for text in texts]

    def _opened_by_child(self, texts: list[str]) -> list[str] | None:
        """Return None if the child could not; opening them here tells why, or is what helps."""
        asked = json.dumps([self._box.existing_key(), [self._box.ciphertext(text) for text in texts]])
        try:
            done = subprocess.run([sys.executable, "-I", "-c", _CHILD], input=asked, capture_output=True, text=True,
                                  timeout=_CHILD_LIMIT_S, check=True)
            return json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError):
            return None
