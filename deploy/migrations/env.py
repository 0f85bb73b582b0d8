"""Alembic's entry: migrate the database that the caller names, one migrator at a time."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from shared.models import Base
from shared.models.database import driver_url

ONE_MIGRATOR = 0x43455254  # "CERT": the advisory lock's number

engine = create_engine(driver_url(context.config.attributes["url"]), poolclass=pool.NullPool, hide_parameters=True)
with engine.connect() as connection:
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": ONE_MIGRATOR})
    connection.commit()
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
