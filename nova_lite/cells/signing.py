"""Signatures on messages between two cells that share a key (`shared_key` on both cells' rows; off without).

A signed message is {'signed': text, 'from': sender, 'hmac': hex}: HMAC-SHA256 over sender and text. A lean one has
both in its first line. With a key configured for a neighbour, what claims to come from it is refused unless the
signature fits.
"""

import hashlib
import hmac
import json

from nova_lite import exception
from nova_lite.cells import lean, routing


class Signatures:
    """Seals what goes to neighbours with a key, opens what comes from them."""

    def __init__(self, state_manager):
        self._state = state_manager
        self._our_name = state_manager.our_name

    def seal(self, cell_state, text: str) -> str:
        key = cell_state.shared_key
        if not key:
            return text
        if lean.is_lean(text):
            return lean.signed(text, _digest(key, self._our_name, text), self._our_name)
        return json.dumps({"signed": text, "from": self._our_name, "hmac": _digest(key, self._our_name, text)})

    def open(self, text: str) -> str:
        """Return the message's text. Raises Invalid when the signature is missing or wrong."""
        keys = {cell.name: key for cell in self._state.get_neighbours() if (key := cell.shared_key)}
        if not keys and not text.startswith('{"signed"'):
            return text
        envelope = json.loads(text)
        if "signed" not in envelope:
            sender = routing.last_name(envelope["routing_path"])
            if sender in keys:
                raise exception.Invalid(f"an unsigned message that says it comes from cell {sender}")
            return text
        sender, signed = envelope["from"], envelope["signed"]
        expected = _digest(keys.get(sender, ""), sender, signed) if sender in keys else ""
        if not hmac.compare_digest(expected, envelope["hmac"]):
            raise exception.Invalid(f"a message whose signature does not fit cell {sender}")
        if routing.last_name(json.loads(signed)["routing_path"]) != sender:
            raise exception.Invalid(f"a message signed by cell {sender} that claims another way")
        return signed

    def check(self, text: str, routing_path: str) -> None:
        """Raise Invalid when the signature of a lean message that came this way is missing or wrong."""
        claimed = routing.last_name(routing_path)
        key = self._state.shared_key_of(claimed)
        signature, sender, signed = lean.signature_of(text)
        if not key and not signature:
            return
        if not signature:
            raise exception.Invalid(f"an unsigned message that says it comes from cell {claimed}")
        if sender != claimed:
            raise exception.Invalid(f"a message signed by cell {sender} that claims another way")
        if not key or not hmac.compare_digest(_digest(key, sender, signed), signature):
            raise exception.Invalid(f"a message whose signature does not fit cell {sender}")


def _digest(key: str, sender: str, text: str) -> str:
    return hmac.new(key.encode(), f"{sender}\n{text}".encode(), hashlib.sha256).hexdigest()
