"""The agent inside a guest: it finds requests in xenstore and answers there."""

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

PRIME = 2**107 - 1
BASE = 5
VERSION = "1.39.1"


class Refused(Exception):
    """The agent answers with this code and message."""


def decrypt(shared: int, ciphertext: bytes) -> bytes:
    """Undo `openssl aes-128-cbc -nosalt` with the MD5 key derivation that agents use. Raises ValueError."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    passphrase = str(shared).encode()
    key = hashlib.md5(passphrase, usedforsecurity=False).digest()
    start = hashlib.md5(key + passphrase, usedforsecurity=False).digest()
    if len(ciphertext) < 16 or len(ciphertext) % 16:
        raise ValueError("not whole blocks")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(start)).decryptor()
    plain = decryptor.update(ciphertext) + decryptor.finalize()
    if not 1 <= plain[-1] <= 16:
        raise ValueError("bad padding")
    return plain[: -plain[-1]]


@dataclass
class Agent:
    """State of one guest's agent; what was done to the guest can be looked at."""

    password: str = field(default="", repr=False)
    files: dict[str, bytes] = field(default_factory=dict)
    network_resets: int = 0
    updates: list[str] = field(default_factory=list)
    _private: int = field(default=0, repr=False)
    _shared: int | None = field(default=None, repr=False)

    def answer(self, text: str, known: Collection[str] | None = None) -> str:
        """Return the JSON answer to a JSON request; an older agent knows only some commands."""
        try:
            code, message = self._run(text, COMMANDS if known is None else known)
        except Refused as refusal:
            code, message = refusal.args
        return json.dumps({"returncode": code, "message": message})

    def _run(self, text: str, known: Collection[str]) -> tuple[str, str]:
        try:
            request = json.loads(text)
            name, value = request["name"], request.get("value", "")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refused("500", "Request is malformed") from None
        command = COMMANDS.get(name) if name in known else None
        if command is None:
            raise Refused("404", f"Request not found: {name}")
        return command(self, value)

    def _version(self, _value: Any) -> tuple[str, str]:
        return "0", VERSION

    def _features(self, _value: Any) -> tuple[str, str]:
        return "0", ",".join(COMMANDS)

    def _keyinit(self, value: Any) -> tuple[str, str]:
        if not isinstance(value, str) or not value.isdigit():
            raise Refused("500", "invalid literal for a public key")
        self._private = secrets.randbits(128)
        self._shared = pow(int(value), self._private, PRIME)
        return "D0", str(pow(BASE, self._private, PRIME))

    def _password(self, value: Any) -> tuple[str, str]:
        if self._shared is None:
            raise Refused("500", "Password without key exchange")
        try:
            ciphertext = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Refused("500", "Couldn't decode base64 data") from None
        try:
            self.password = decrypt(self._shared, ciphertext).decode().strip("\n")
        except (ValueError, UnicodeDecodeError):
            raise Refused("500", "Invalid password data received") from None
        self._shared = None
        return "0", ""

    def _resetnetwork(self, _value: Any) -> tuple[str, str]:
        self.network_resets += 1
        return "0", ""

    def _injectfile(self, value: Any) -> tuple[str, str]:
        try:
            path, _, content = base64.b64decode(value, validate=True).partition(b",")
            self.files[path.decode()] = content
        except (binascii.Error, TypeError, ValueError):
            raise Refused("500", "Couldn't decode base64 data") from None
        return "0", ""

    def _agentupdate(self, value: Any) -> tuple[str, str]:
        if isinstance(value, dict):
            value = f"{value.get('url', '')},{value.get('md5sum', '')}"
        url, comma, digest = str(value).rpartition(",")
        if not comma or not url or not digest:
            raise Refused("500", "Request is malformed")
        self.updates.append(url)
        return "0", ""

    def _kmsactivate(self, value: Any) -> tuple[str, str]:
        if not isinstance(value, dict) or not {"activation_key", "profile", "domains"} <= set(value):
            raise Refused("500", "Request is malformed")
        return "0", ""


COMMANDS = {
    "features": Agent._features,
    "version": Agent._version,
    "injectfile": Agent._injectfile,
    "resetnetwork": Agent._resetnetwork,
    "keyinit": Agent._keyinit,
    "password": Agent._password,
    "agentupdate": Agent._agentupdate,
    "kmsactivate": Agent._kmsactivate,
}
