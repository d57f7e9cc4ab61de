"""Users' key pairs."""

from typing import Any

from nova_lite.objects import base, fields

KEYPAIR_TYPE_SSH = "ssh"


@base.register
class KeyPair(base.Persistent, base.NovaObject):
    """The public half of a key pair. Key pairs live in the top cell."""

    VERSION = "1.3"

    fields = {
        "id": fields.Integer(),
        "name": fields.Text(),
        "user_id": fields.Text(nullable=True),
        "fingerprint": fields.Text(nullable=True),
        "public_key": fields.Text(nullable=True),
        "type": fields.Text(default=KEYPAIR_TYPE_SSH),
    }

    @classmethod
    def get_by_name(cls, context: Any, user_id: str, name: str) -> "KeyPair":
        """Return a user's key pair. Raises KeypairNotFound."""
        return cls._from_row(context, context.services.db.key_pair_get(context, user_id, name))

    @classmethod
    def destroy_by_name(cls, context: Any, user_id: str, name: str) -> None:
        """Soft-delete a user's key pair. Raises KeypairNotFound."""
        context.services.db.key_pair_destroy(context, user_id, name)

    def create(self) -> None:
        """Insert the row. Raises ObjectActionError when there is one, KeyPairExists."""
        self._refuse_if_created()
        self._fill(self._db.key_pair_create(self._context, self._changed_columns()))

    def destroy(self) -> None:
        """Soft-delete the row. Raises KeypairNotFound."""
        self.destroy_by_name(self._context, self.user_id, self.name)


@base.register
class KeyPairList(base.ObjectList, base.NovaObject):
    """Several key pairs."""

    VERSION = "1.2"
    child = KeyPair
    fields = {"objects": fields.ListOfNested("KeyPair")}

    @classmethod
    def get_by_user(cls, context: Any, user_id: str) -> "KeyPairList":
        """Return a user's key pairs."""
        return cls._from_rows(context, context.services.db.key_pair_get_all_by_user(context, user_id))

    @classmethod
    def get_count_by_user(cls, context: Any, user_id: str) -> int:
        """Return how many key pairs a user has."""
        return context.services.db.key_pair_count_by_user(context, user_id)
