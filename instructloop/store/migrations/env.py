"""Runs the revisions on the connection that the store hands over; there is no offline mode."""

from alembic import context

from instructloop.store.tables_people import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
