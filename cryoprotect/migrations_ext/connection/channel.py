"""Everything that a script sends goes through here: counted, timed, and with its errors remembered."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from ..dialects.base import Dialect
from ..dialects.statements import Statement, StatementKind
from .guard import Guard
from .ledger import Ledger
from .progress import Progress, StatementReport
from .results import Result, rows_of

_RAW = {"no_parameters": True}  # the only way past SQLAlchemy that leaves % and : alone
_QUERY_CANCELED = "57014"


@dataclass(frozen=True, slots=True)
class _Call:
    """One text on its way: a SQL file, or one `conn.sql`."""

    count: int
    """The number of its last statement."""
    first_line: int


class Channel:
    """The connection as a script reaches it, through whichever member of `conn`."""

    def __init__(
        self,
        connection: sa.Connection,
        dialect: Dialect,
        *,
        transactional: bool,
        on_statement: Callable[[StatementReport], None] | None,
    ) -> None:
        self.dialect = dialect
        self.transactional = transactional
        self.progress = Progress()
        self.observed = True
        """Whether the guard's listeners count what they see; off while this class counts by itself."""
        self.guard = Guard(connection, dialect, self, transactional=transactional)
        self._connection = connection
        self._on_statement = on_statement
        self._ledger = Ledger()
        self._started_at = 0.0
        self._savepoints: Sequence[str] = ()

    @property
    def connection(self) -> sa.Connection:
        """The SQLAlchemy connection, guarded."""
        self.guard.install()
        return self._connection

    @property
    def standing(self) -> BaseException | None:
        """The first SQL error that was not undone. Outside a transaction an error undoes itself."""
        return self._ledger.standing if self.transactional else None

    @contextmanager
    def unobserved(self) -> Iterator[sa.Connection]:
        """Give the connection for statements that the guard's listeners need not look at; errors are still noted."""
        before, self.observed = self.observed, False
        try:
            yield self._connection
        except DBAPIError as error:
            self.failed(error)
            raise
        finally:
            self.observed = before

    # -- texts

    def run(self, statements: Sequence[Statement], *, first_line: int = 1, done: int = 0) -> Result:
        """Send `statements` as they are, but for the first `done`; answer with the last rows that came back."""
        call = _Call(self.progress.number + len(statements), first_line)
        self.progress.number += done
        rows: list[dict[str, Any]] | None = None
        count: int | None = None
        with self.unobserved():
            for message in self._messages(statements[done:]):
                found, count = self._send(message[0], call) if len(message) == 1 else self._send_many(message, call)
                if found is not None:
                    rows = found
        return Result(rows or [], count)

    def run_bound(self, statement: Statement, text: str, values: Mapping[str, Any] | tuple[Any, ...]) -> Result:
        """Send one statement as `text`, with values bound by the driver."""
        with self.unobserved() as connection:
            self._start(statement, _Call(self.progress.number + 1, 1))
            self.progress.text, self.progress.offset = text, None
            rows, count = _answer(connection.exec_driver_sql(text, values))
            self._finish(statement)
        return Result(rows or [], count)

    def _messages(self, statements: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
        if self.transactional:
            return self.dialect.messages(statements)
        # Outside a transaction a message of several statements would be a transaction of its own.
        return ([s] for s in statements)

    def _send(self, statement: Statement, call: _Call) -> tuple[list[dict[str, Any]] | None, int | None]:
        self._start(statement, call)
        if statement.kind is StatementKind.COPY_STDIN:
            rows, count = None, self._copy(statement)
        else:
            rows, count = self._execute(statement.text)
        if statement.kind is StatementKind.SAVEPOINT:
            self._ledger.executed(statement.text)
        self._finish(statement)
        return rows, count

    def _send_many(
        self, statements: Sequence[Statement], call: _Call
    ) -> tuple[list[dict[str, Any]] | None, int | None]:
        """Send neighbours in one message. If that fails, take it back and send one by one, to know which it was.

        The driver keeps the last statement's rows only.
        """
        savepoint = f"sp_{secrets.token_hex(8)}"
        # A message of its own: the server parses a whole message before it runs any of it.
        self._execute(f"SAVEPOINT {savepoint}")
        before = self.progress.number
        self._start_unknown(call)
        try:
            answer = self._execute(";\n".join(s.text for s in statements))
        except DBAPIError as error:
            if error.connection_invalidated or getattr(error.orig, "pgcode", None) == _QUERY_CANCELED:
                raise  # nothing more may be sent
            self._execute(f"ROLLBACK TO SAVEPOINT {savepoint}")
            self.progress.number = before
            for statement in statements:
                answer = self._send(statement, call)
        else:
            self.progress.number = before
            for statement in statements:
                self._start(statement, call, keep_time=True)
                self._finish(statement, timed=statement is statements[-1])
        self._execute(f"RELEASE SAVEPOINT {savepoint}")
        return answer

    def _execute(self, text: str) -> tuple[list[dict[str, Any]] | None, int | None]:
        return _answer(self._connection.exec_driver_sql(text, execution_options=_RAW))

    def _copy(self, statement: Statement) -> int | None:
        """Load the rows of a COPY … FROM STDIN, which no `execute` of the driver takes."""
        dialect = self._connection.dialect
        pooled = self._connection.connection
        with closing(pooled.cursor()) as cursor:
            try:
                cursor.copy_expert(statement.text, io.StringIO(statement.data))
            except dialect.loaded_dbapi.Error as error:
                # As SQLAlchemy wraps it, so that everyone above sees one kind of error.
                raise DBAPIError.instance(
                    statement.text,
                    None,
                    error,
                    dialect.loaded_dbapi.Error,
                    connection_invalidated=dialect.is_disconnect(error, pooled, cursor),
                    dialect=dialect,
                ) from error
            return _number(cursor.rowcount)

    def _start(self, statement: Statement, call: _Call, *, keep_time: bool = False) -> None:
        progress = self.progress
        progress.number += 1
        progress.count = call.count
        progress.text, progress.offset = statement.text, statement.offset
        progress.line = call.first_line + statement.line - 1
        if not keep_time:
            self._started_at = perf_counter()

    def _start_unknown(self, call: _Call) -> None:
        progress = self.progress
        progress.number += 1
        progress.count = call.count
        progress.text = progress.line = progress.offset = None
        self._started_at = perf_counter()

    def _finish(self, statement: Statement, *, timed: bool = True) -> None:
        if self._on_statement is not None:
            self._report(statement.text, timed=timed)

    # -- what the guard sees on the connection

    def before(self, text: str, savepoints: Sequence[str]) -> None:
        """A statement that did not come through `run` is about to be sent."""
        progress = self.progress
        progress.number += 1
        progress.text = text
        progress.count = progress.line = progress.offset = None
        self._savepoints = savepoints
        self._started_at = perf_counter()

    def after(self) -> None:
        """It was carried out."""
        for text in self._savepoints:
            self._ledger.executed(text)
        if self._on_statement is not None and self.progress.text is not None:
            self._report(self.progress.text)

    def failed(self, error: BaseException) -> None:
        """Note an SQL error: it stands until the script rolls back to a savepoint set before it."""
        self._ledger.failed(error, replace(self.progress))

    def go_back(self) -> None:
        """Set the progress back to the statement whose error stands; the script has gone on since."""
        if self._ledger.place is not None:
            self.progress.set_to(self._ledger.place)

    def _report(self, text: str, *, timed: bool = True) -> None:
        assert self._on_statement is not None
        duration_ms = round((perf_counter() - self._started_at) * 1000) if timed else 0
        p = self.progress
        self._on_statement(StatementReport(p.number, p.count, p.line, duration_ms, text))


def _answer(result: sa.CursorResult[Any]) -> tuple[list[dict[str, Any]] | None, int | None]:
    rows = rows_of(result)
    return rows, _number(result.rowcount) if rows is None else len(rows)


def _number(rowcount: int) -> int | None:
    return rowcount if rowcount >= 0 else None
