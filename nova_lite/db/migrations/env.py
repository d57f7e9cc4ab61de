"""Runs migrations on the connection that nova_lite.db.schema gives."""

from alembic import context

from nova_lite.db import models

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=models.Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
