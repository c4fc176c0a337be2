"""`conn.op`: Alembic's operations on the migration's connection, as portable as two databases allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

NAMING_CONVENTION = {
    "ix": "ix_%(column_0_label)s",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}
"""The names that PostgreSQL itself gives to constraints without one. SQLite gives none; with these a constraint can be
dropped by the same name on both. Indexes are named as SQLAlchemy does."""


def operations(connection: sa.Connection, *, transactional: bool, refuse: Callable[[str, str], NoReturn]) -> Operations:
    """Return Alembic's operations bound to `connection`."""
    context = _Context(
        connection.dialect,
        connection,
        {"target_metadata": sa.MetaData(naming_convention=NAMING_CONVENTION)},
    )
    context.refuse = refuse if transactional else None
    return _Operations(context)


class _Context(MigrationContext):
    refuse: Callable[[str, str], NoReturn] | None = None

    @contextmanager
    def autocommit_block(self) -> Iterator[None]:
        """Nothing to do outside a transaction; inside ours it would commit what is not the script's to commit."""
        if self.refuse is not None:
            self.refuse(
                "The script opens an autocommit_block(), which commits the migration's transaction.",
                "Declare the script `transactional = False`; each statement is committed by itself then.",
            )
        yield


class _Operations(Operations):
    def batch_alter_table(self, *positional: Any, **options: Any) -> Any:
        """As Alembic's, with our names for constraints that SQLite has without one."""
        options.setdefault("naming_convention", NAMING_CONVENTION)
        return super().batch_alter_table(*positional, **options)
