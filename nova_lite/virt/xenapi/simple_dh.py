"""The key exchange and cipher guest agents understand.

The group is smooth and tiny: who sees both public keys has the secret in seconds. It hides a password from a casual
look at xenstore, nothing more; protect the path by TLS to xapi and by the rights on the host.
"""

import base64
import binascii
import hashlib
import secrets

PRIME = 162259276829213363391578010288127  # 2**107 - 1
BASE = 5
BLOCK_B = 16


class SimpleDH:
    """One side of a Diffie-Hellman exchange, with the AES-128-CBC cipher its shared secret keys.

    Key and IV come from the decimal secret as OpenSSL's EVP_BytesToKey makes them with MD5 and no salt. Every
    failure raises RuntimeError.
    """

    def __init__(self):
        self._prime = PRIME
        self._base = BASE
        self._public = None
        self._shared = None
        self._digest = "md5"
        self.generate_private()

    def generate_private(self) -> int:
        """Draw, keep and return a private key of 80 bits, never 0."""
        self._private = int.from_bytes(secrets.token_bytes(10), "big") or self.generate_private()
        return self._private

    def get_public(self) -> int:
        """Return the public key."""
        self._public = self.mod_exp(self._base, self._private, self._prime)
        return self._public

    def compute_shared(self, other: int) -> int:
        """Return, and keep, the secret shared with the holder of the public key `other`."""
        self._shared = self.mod_exp(other, self._private, self._prime)
        return self._shared

    @staticmethod
    def mod_exp(num: int, exp: int, mod: int) -> int:
        """Return num ** exp % mod; 1 for exp 0."""
        return pow(num, exp, mod) if exp else 1

    def encrypt(self, text: str | bytes) -> str:
        """Return the base64 text, in one line, of the encrypted text."""
        plain = text.encode() if isinstance(text, str) else text
        padding = BLOCK_B - len(plain) % BLOCK_B
        encryptor = self._cipher().encryptor()
        sealed = encryptor.update(plain + bytes([padding]) * padding) + encryptor.finalize()
        return base64.b64encode(sealed).decode()

    def decrypt(self, text: str | bytes) -> str:
        """Return the plain text, with all its newlines; the encrypted text may be wrapped into lines."""
        try:
            lines = text if isinstance(text, str) else text.decode()
            sealed = base64.b64decode("".join(lines.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RuntimeError(f"the encrypted text is no base64: {error}") from None
        if not sealed or len(sealed) % BLOCK_B:
            raise RuntimeError(f"the encrypted text has {len(sealed)} bytes, expected a multiple of {BLOCK_B}")
        decryptor = self._cipher().decryptor()
        padded = decryptor.update(sealed) + decryptor.finalize()
        padding = padded[-1]
        if not 1 <= padding <= BLOCK_B or padded[-padding:] != bytes([padding]) * padding:
            raise RuntimeError("the text cannot be decrypted: the padding is wrong")
        try:
            return padded[:-padding].decode()
        except UnicodeDecodeError:
            raise RuntimeError("the text cannot be decrypted: the result is no UTF-8") from None

    def _cipher(self):
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        if self._shared is None:
            raise RuntimeError("there is no shared secret yet")
        key, iv = self._key_and_iv(str(self._shared).encode())
        return Cipher(algorithms.AES(key), modes.CBC(iv))

    def _key_and_iv(self, passphrase: bytes) -> tuple[bytes, bytes]:
        material = block = b""
        while len(material) < 2 * BLOCK_B:
            block = hashlib.new(self._digest, block + passphrase, usedforsecurity=False).digest()
            material += block
        return material[:BLOCK_B], material[BLOCK_B:2 * BLOCK_B]
