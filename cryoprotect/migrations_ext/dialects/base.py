"""What the engine needs from a database, and nothing a database does not differ in."""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa

from ..errors import LockBusyError, RunCancelledError
from ..model import LockHolder
from ..settings import Settings
from .statements import Statement

OnWait = Callable[[LockHolder | None], None]


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a database said about a statement, taken apart as far as it gave parts."""

    message: str
    """First line, without SQL or parameters."""
    detail: str | None = None
    hint: str | None = None
    position: int | None = None
    """Character in the statement, 1-based, where the server gave one. Never invented."""
    code: str | None = None
    """SQLSTATE on PostgreSQL, the error's name on SQLite."""


@dataclass(frozen=True, slots=True)
class Write:
    """One statement of ours with its bound values, in the driver's parameter style."""

    sql: str
    values: Sequence[Any] = ()
    must_hit: bool = False
    """An UPDATE or DELETE that finds no row is an error: somebody else changed the history."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tracking tables are, or will be."""

    database: str
    schema: str | None
    """None on SQLite."""


class HistoryChangedError(LockBusyError):
    """Raised when another run changed the history although this one holds the lock."""

    def __init__(self) -> None:
        super().__init__(
            "Another run changed the history at the same moment; this migration was rolled back.",
            hint="Run the command again: it reads the history afresh.",
        )


class LockLostError(LockBusyError):
    """Raised when the migration lock was lost while a migration ran."""

    def __init__(self) -> None:
        super().__init__(
            "The migration lock was lost while the migration ran (its connection was cut); it was rolled back.",
            hint="Run the command again.",
        )


class MigrationLock(ABC):
    """The migration lock while it is held, and a connection of its own beside the migration's."""

    connection: sa.Connection
    """In AUTOCOMMIT; for reading history under the lock."""
    place: Place

    @abstractmethod
    def write(self, writes: Sequence[Write]) -> None:
        """Commit rows or table definitions at once, in one transaction of their own."""


class Session(ABC):
    """The one connection on which scripts run: opened after the lock, closed for good afterwards.

    The SQLAlchemy connection is in AUTOCOMMIT at the driver's level; `begin`, `commit` and `rollback` send the real
    statements, so that nothing a script calls on the connection can end the transaction behind our back.
    """

    connection: sa.Connection

    @abstractmethod
    def begin(self) -> datetime:
        """Open a migration's transaction with fresh session settings, timeouts and our savepoint.

        Returns the transaction's time by the database's clock, UTC and aware.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise `ScriptGuardError` if the script ended the transaction or left it in error."""

    @abstractmethod
    def commit(self, writes: Sequence[Write]) -> None:
        """Send our rows and commit them with everything that the script did.

        Raises `ScriptGuardError` where the script ended the transaction itself, `HistoryChangedError` and
        `LockLostError` where we are not alone, and the database's own error for what it finds at COMMIT (deferred
        constraints). The caller rolls back.
        """

    @abstractmethod
    def rollback(self) -> None:
        """Undo the migration under way. Never raises for a connection that is gone: the server has rolled back."""

    @abstractmethod
    def begin_autocommit(self) -> datetime:
        """Make the session ready for a non-transactional migration: settings and timeouts, no transaction."""

    @abstractmethod
    def end_autocommit(self) -> None:
        """Leave a non-transactional migration; raises `ScriptGuardError` if it left a transaction open."""

    @abstractmethod
    def cancel(self) -> None:
        """Stop the statement under way; called from another thread."""


class Dialect(ABC):
    """One kind of database. Instances hold no connection and are cheap."""

    name: ClassVar[str]
    """SQLAlchemy's name of the dialect: `postgresql` or `sqlite`."""
    placeholder: ClassVar[str]
    """The driver's mark for a bound value."""
    serial: ClassVar[str]
    """Column definition of a growing integer key."""
    timestamp: ClassVar[str]
    """Column type of a moment in time."""
    now: ClassVar[str]
    """Expression for the transaction's time, as a column default."""

    @abstractmethod
    def split(self, text: str) -> list[Statement]:
        """Cut a text into statements by this database's own grammar; each keeps every character."""

    @abstractmethod
    def messages(self, statements: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
        """Group statements into messages: one each, or neighbours together where a script has very many."""

    @abstractmethod
    def complaint(self, error: BaseException) -> Complaint | None:
        """Take a database error apart; None where `error` is not one."""

    @abstractmethod
    def is_retryable(self, error: BaseException) -> bool:
        """Whether the same migration may well succeed when it is tried again: lock timeout, deadlock."""

    @abstractmethod
    def is_unavailable(self, error: BaseException) -> bool:
        """Whether the database could not be reached at all, or the connection is gone."""

    @abstractmethod
    def is_readonly(self, error: BaseException) -> bool:
        """Whether the database refused to be written to."""

    @abstractmethod
    def database_name(self, engine: sa.Engine) -> str:
        """The name that a person knows the database by, without connecting."""

    @abstractmethod
    def place(self, connection: sa.Connection, settings: Settings) -> Place:
        """Where the tracking tables are; raises `ConfigurationError` where no schema is in the search path."""

    @abstractmethod
    def history_query(self, settings: Settings) -> str:
        """One query for every row of the tracking table, with a last column `_ours`.

        Rows come in any order. A row without `id` only carries `_ours`, which is false where the table that the name
        finds is in another schema than the one where we would write.
        """

    @abstractmethod
    def parse_time(self, value: Any) -> datetime | None:
        """A stored time as UTC and aware."""

    @abstractmethod
    def lock(
        self, engine: sa.Engine, settings: Settings, *, actor: str, on_wait: OnWait, stop: threading.Event
    ) -> AbstractContextManager[MigrationLock]:
        """Hold the migration lock; poll at most `settings.lock_wait` seconds, then raise `LockBusyError`.

        Raises `RunCancelledError` when `stop` is set while waiting.
        """

    @abstractmethod
    def lock_holder(self, engine: sa.Engine, settings: Settings) -> LockHolder | None:
        """Who holds the lock now, or None where it is free."""

    @abstractmethod
    def session(self, engine: sa.Engine, settings: Settings, lock: MigrationLock) -> AbstractContextManager[Session]:
        """The connection for the scripts of one run."""

    def reading_engine(self, engine: sa.Engine) -> sa.Engine:
        """The engine to read through: one that makes nothing where there is nothing yet."""
        return engine

    def let_go(self, engine: sa.Engine) -> None:
        """Close the pool's idle connections, so that a process forked from here shares none."""
        engine.dispose()

    @abstractmethod
    def blockers(self, engine: sa.Engine, session: Session) -> list[LockHolder]:
        """Who blocks the session's statement at this moment (empty where that cannot be known)."""

    @abstractmethod
    def has_table(self, connection: sa.Connection, table: str, schema: str | None = None) -> bool:
        """Whether a table or view of that name can be seen."""

    @abstractmethod
    def has_column(self, connection: sa.Connection, table: str, column: str, schema: str | None = None) -> bool:
        """Whether that table has that column."""


def storable(text: str) -> str:
    """Return `text` as every database can keep it: without NUL, and without halves of characters."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def poll(
    attempt: Callable[[], bool],
    *,
    seconds: float,
    holder: Callable[[], LockHolder | None],
    on_wait: OnWait,
    stop: threading.Event,
) -> None:
    """Call `attempt` every 50 to 250 ms until it succeeds; say who holds the lock at once and then every 5 seconds.

    Jitter keeps many waiters from knocking together. Raises `LockBusyError` after `seconds`, and
    `RunCancelledError` as soon as `stop` is set.
    """
    deadline = time.monotonic() + seconds
    next_word = 0.0
    while not attempt():
        now = time.monotonic()
        if now >= deadline:
            raise LockBusyError(
                f"Another migration run holds the lock: {holder() or 'its process cannot be seen'}. "
                f"Waited {seconds:g} s.",
                hint="Wait until it has finished and run the command again. "
                "DB_MIGRATE_LOCK_WAIT sets how long to wait.",
            )
        if now >= next_word:
            on_wait(holder())
            next_word = now + 5
        pause = min(random.uniform(0.05, 0.25), max(deadline - now, 0.01))  # noqa: S311 - no secret
        if stop.wait(pause):
            raise RunCancelledError("Stopped while waiting for the migration lock; nothing was changed.")
