"""Users' key pairs (compute specification §10.4)."""

import base64
import hashlib
import re

from nova_lite import exception
from nova_lite.compute.api_quota import Quotas
from nova_lite.context import RequestContext, Services
from nova_lite.objects import KeyPair, KeyPairList

_NAME = re.compile(r"[A-Za-z0-9_ -]{1,255}\Z")


class KeypairAPI:
    """Keeps the public halves; the private half of a generated pair is shown once and kept nowhere."""

    def __init__(self, services: Services) -> None:
        self._quotas = Quotas(services)

    def import_key_pair(self, context: RequestContext, user_id: str, key_name: str, public_key: str) -> KeyPair:
        """Keep a public key in OpenSSH form. Raises InvalidKeypair, KeypairLimitExceeded, KeyPairExists."""
        self._check_new(context, user_id, key_name)
        return self._keep(context, user_id, key_name, public_key.strip())

    def create_key_pair(self, context: RequestContext, user_id: str, key_name: str) -> tuple[KeyPair, str]:
        """Return a new pair and its private key as OpenSSH text. Raises as import_key_pair."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        self._check_new(context, user_id, key_name)
        key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH,
                                    serialization.NoEncryption())
        return self._keep(context, user_id, key_name, public.decode()), private.decode()

    def _check_new(self, context: RequestContext, user_id: str, key_name: str) -> None:
        if not _NAME.match(key_name or ""):
            raise exception.InvalidKeypair(
                explanation="a name has 1 to 255 letters, digits, spaces, dashes and underscores")
        self._quotas.check_keypairs(context, KeyPairList.get_count_by_user(context, user_id) + 1)

    def _keep(self, context: RequestContext, user_id: str, key_name: str, public_key: str) -> KeyPair:
        pair = KeyPair(context, user_id=user_id, name=key_name, public_key=public_key,
                       fingerprint=fingerprint(public_key), type="ssh")
        pair.create()
        return pair

    def delete_key_pair(self, context: RequestContext, user_id: str, key_name: str) -> None:
        """Forget a pair; instances keep the key they were made with. Raises KeypairNotFound."""
        KeyPair.destroy_by_name(context, user_id, key_name)

    def get_key_pairs(self, context: RequestContext, user_id: str) -> KeyPairList:
        """Return the user's pairs."""
        return KeyPairList.get_by_user(context, user_id)

    def get_key_pair(self, context: RequestContext, user_id: str, key_name: str) -> KeyPair:
        """Return one pair. Raises KeypairNotFound."""
        return KeyPair.get_by_name(context, user_id, key_name)


def fingerprint(public_key: str) -> str:
    """Return the MD5 fingerprint of an OpenSSH public key, as OpenSSH prints it. Raises InvalidKeypair."""
    from cryptography import exceptions
    from cryptography.hazmat.primitives import serialization

    try:
        serialization.load_ssh_public_key(public_key.encode())
        blob = base64.b64decode(public_key.split()[1])
    except (ValueError, IndexError, exceptions.UnsupportedAlgorithm) as error:
        raise exception.InvalidKeypair(explanation="the public key is not of the form 'ssh-… BASE64 [comment]'"
                                       ) from error
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[start:start + 2] for start in range(0, len(digest), 2))
