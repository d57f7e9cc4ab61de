"""Console tokens."""

from sqlalchemy import Column, Integer

from nova_lite.db.models import columns
from nova_lite.db.models.base import Base, LongText, Row


class ConsoleAuthToken(Row, Base):
    __tablename__ = "console_auth_tokens"

    id = columns.row_id()
    token_hash = columns.short_text(nullable=False, unique=True)
    console_type = columns.short_text(nullable=False)
    host = columns.short_text(nullable=False)
    port = Column(Integer, nullable=False)
    internal_access_path = Column(LongText)
    instance_uuid = columns.uuid(nullable=False, index=True)
    access_url = Column(LongText)
    expires = Column(Integer, nullable=False, index=True)
