"""The only fork between databases: what PostgreSQL and SQLite do differently, and nothing else."""

from __future__ import annotations

import sqlalchemy as sa

from ..errors import ConfigurationError
from .base import Complaint, Dialect, MigrationLock, Session, Write

_DRIVERS = {"postgresql": "psycopg2", "sqlite": "pysqlite"}


def dialect_for(engine: sa.Engine) -> Dialect:
    """Return the dialect of `engine`; raises `ConfigurationError` for another database or another driver."""
    name, driver = engine.dialect.name, engine.dialect.driver
    wanted = _DRIVERS.get(name)
    if wanted is None:
        raise ConfigurationError(
            f"{name} databases are not supported; this tool runs on PostgreSQL and SQLite.",
            hint="Point SQLALCHEMY_DATABASE_URI at one of them, or DB_MIGRATE_BIND at a bind that is.",
        )
    if driver != wanted:
        raise ConfigurationError(
            f"The app's engine uses the driver {driver!r}; this tool works over {wanted!r}.",
            hint=(
                "Write the URL as postgresql+psycopg2://… (SQLAlchemy 2.1 reads postgresql:// as psycopg 3)."
                if name == "postgresql"
                else "Write the URL as sqlite:///… ."
            ),
        )
    if name == "postgresql":
        from .postgresql import PostgreSQL

        return PostgreSQL()
    from .sqlite import SQLite

    return SQLite()


__all__ = ["Complaint", "Dialect", "MigrationLock", "Session", "Write", "dialect_for"]
