"""How alembic reaches the connection that `remit.storage.migrate` gives it."""

from alembic import context

from remit.storage.schema import everything

config = context.config
connection = config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=everything(),
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
