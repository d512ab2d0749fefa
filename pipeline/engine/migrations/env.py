"""Alembic runs inside the engine, on the connection it is handed."""

from alembic import context

from pipeline.engine.store import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
