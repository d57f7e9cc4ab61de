"""Passwords of other cells' brokers, at rest."""

import os
import re
import threading
from typing import Any

from nova_lite import exception

_MARK = "encrypted:"
_URL_PASSWORD = re.compile(r"(?<=[/,])([^:@/,]*):([^@,]*)@")


class SecretBox:
    """Encrypts text with the key in a file, which is made with mode 0600 when first needed."""

    def __init__(self, path: str):
        self._path = path
        self._guard = threading.Lock()
        self._fernet: Any = None

    @staticmethod
    def is_closed(text: str) -> bool:
        """Whether a stored text is encrypted."""
        return text.startswith(_MARK)

    def close(self, text: str | None) -> str | None:
        """Return text as it may be stored; None stays None."""
        if text is None or self.is_closed(text):
            return text
        return _MARK + self._cipher().encrypt(text.encode()).decode()

    def open(self, stored: str | None) -> str | None:
        """Return what was stored; text that was never encrypted as it is. Raises ConfigurationError."""
        if stored is None or not self.is_closed(stored):
            return stored
        from cryptography.fernet import InvalidToken

        try:
            return self._cipher().decrypt(stored.removeprefix(_MARK).encode()).decode()
        except InvalidToken as exc:
            raise exception.ConfigurationError(
                reason=f"The key in {self._path} does not open the secrets in the table 'cells': every service of a "
                "cell needs the same key file") from exc

    def _cipher(self) -> Any:
        from cryptography.fernet import Fernet

        with self._guard:
            if self._fernet is None:
                self._fernet = Fernet(self._key(Fernet.generate_key))
            return self._fernet

    def _key(self, generate: Any) -> bytes:
        try:
            with open(self._path, "rb") as file:
                return file.read().strip()
        except FileNotFoundError:
            return self._make_key(generate())
        except OSError as exc:
            raise exception.ConfigurationError(
                reason=f"[database] secret_key_file {self._path} cannot be read: {exc.strerror}") from exc

    def _make_key(self, key: bytes) -> bytes:
        """Write the key in one step; when another process was faster, its key holds."""
        draft = f"{self._path}.{os.getpid()}.{threading.get_ident()}"
        try:
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, self._path)
            except FileExistsError:
                return self._key(None)
            finally:
                os.unlink(draft)
            return key
        except OSError as exc:
            raise exception.ConfigurationError(
                reason=f"[database] secret_key_file {self._path} cannot be made: {exc.strerror}") from exc


def mask_url(url: str | None) -> str | None:
    """Return a transport URL with its passwords replaced by ***."""
    return _URL_PASSWORD.sub(r"\1:***@", url) if url else url
