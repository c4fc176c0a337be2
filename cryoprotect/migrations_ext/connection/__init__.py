"""What a script receives as `conn`: SQL as text, tables and functions by name, SQLAlchemy, Alembic's operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ..dialects.base import Dialect
from ..errors import ScriptCallError, ScriptGuardError
from .builder import Drafts
from .channel import Channel
from .progress import Progress, StatementReport
from .query import Table
from .results import Result
from .rpc import Rpc
from .sql import Parameters, Sql, run_text
from .texts import check_text

if TYPE_CHECKING:
    from alembic.operations import Operations


class MigrationConnection:
    """The database inside one migration. Nothing that a script does here is kept unless the whole script succeeds."""

    def __init__(
        self,
        connection: sa.Connection,
        dialect: Dialect,
        *,
        transactional: bool = True,
        on_statement: Callable[[StatementReport], None] | None = None,
    ) -> None:
        self._channel = Channel(connection, dialect, transactional=transactional, on_statement=on_statement)
        self._drafts = Drafts()
        self._op: Operations | None = None

    # -- for scripts

    def sql(self, text: str, params: Parameters | None = None) -> Sql:
        """Run one or many statements exactly as written, on `.execute()`.

        With `params` it is one statement with bound values: a dictionary for `:name` (on both databases alike; text in
        quotes, `::type` and a `:name` without a value are left alone), or a list for the driver's own marks, `%s` on
        PostgreSQL and `?` on SQLite.
        """
        return Sql(self._channel, self._drafts, text, params)

    def table(self, name: str) -> Table:
        """Read or write rows of a table: `conn.table('molecules').select('id, name').eq('id', 1).execute()`."""
        return Table(self._channel, self._drafts, name)

    from_ = table

    def rpc(self, function: str, params: Mapping[str, Any] | None = None, **named: Any) -> Rpc:
        """Call a function of the database with named arguments, on `.execute()`.

        A function of one value answers `.data == [value]`, one of rows a list of dictionaries, a void one `[]`.
        `has_table(table_name)`, `has_column(table_name, column_name)` and `exec_sql(sql)` work everywhere.
        """
        return Rpc(self._channel, self._drafts, function, {**(params or {}), **named})

    def execute(self, construct: sa.Executable, params: Any = None) -> sa.CursorResult[Any]:
        """Run a SQLAlchemy construct at once: `sa.text(…)`, `table.insert()`, … with SQLAlchemy's own result."""
        if isinstance(construct, str):
            raise ScriptCallError(
                "conn.execute takes SQLAlchemy constructs, not text.", hint="Write conn.sql('…').execute() instead."
            )
        return self._channel.connection.execute(construct, params)

    @property
    def op(self) -> Operations:
        """Alembic's operations for portable DDL: `conn.op.add_column(…)`, `conn.op.batch_alter_table(…)`."""
        if self._op is None:
            from .operations import operations

            self._op = operations(
                self._channel.connection,
                transactional=self._channel.transactional,
                refuse=self._channel.guard.refuse,
            )
        return self._op

    @property
    def connection(self) -> sa.Connection:
        """The SQLAlchemy connection, for the ORM and everything else: `Session(conn.connection)`.

        `begin_nested()` works; commit, rollback and close raise `ScriptGuardError`.
        """
        return self._channel.connection

    @property
    def dialect(self) -> str:
        """`postgresql` or `sqlite`."""
        return self._channel.dialect.name

    # -- for the engine

    @property
    def progress(self) -> Progress:
        """How far the script has come."""
        return self._channel.progress

    @property
    def violated(self) -> ScriptGuardError | None:
        """The first forbidden call, even if the script swallowed the error that it raised."""
        return self._channel.guard.violated

    @property
    def failed(self) -> BaseException | None:
        """The first SQL error that the script did not undo by rolling back to a savepoint, even if it swallowed it.

        None for a non-transactional script: a failed statement leaves nothing behind there.
        """
        return self._channel.standing

    def check(self) -> None:
        """Raise what the script hid, once it is done: a forbidden call, or an SQL error that it did not undo."""
        if self.violated is not None:
            raise self.violated
        error = self.failed
        if error is None:
            return
        channel = self._channel
        channel.go_back()
        if channel.dialect.is_retryable(error):
            raise error
        complaint = channel.dialect.complaint(error)
        raise ScriptGuardError(
            f"The script went on after an SQL error: {complaint.message if complaint else error}",
            hint="Let the error out, or put what may fail into a savepoint: `with conn.connection.begin_nested():`.",
        ) from error

    def unexecuted(self) -> list[str]:
        """Return what the script built and never executed, each with its line: a forgotten `.execute()`."""
        return list(self._drafts)

    def run_script(self, text: str, first_line: int = 1, *, done: int = 0) -> Result:
        """Run a SQL file's text as `conn.sql` would, with the file's lines in `progress` and in errors.

        `first_line` is the line of the file where `text` starts; the first `done` statements are left out, as they were
        done by an earlier run.
        """
        return run_text(self._channel, text, first_line=first_line, done=done)

    def release(self) -> None:
        """Take the guard off the connection, before the engine commits or rolls back. Sends nothing."""
        self._channel.guard.remove()


__all__ = ["MigrationConnection", "Progress", "Result", "StatementReport", "check_text"]
