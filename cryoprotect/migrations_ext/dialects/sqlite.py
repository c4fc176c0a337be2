"""SQLite over the standard library's driver: a side file under flock, and BEGIN IMMEDIATE per migration."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from ..errors import ConfigurationError, DatabaseUnavailableError, ScriptGuardError
from ..model import LockHolder
from ..settings import Settings
from .base import (
    Complaint,
    Dialect,
    HistoryChangedError,
    MigrationLock,
    OnWait,
    Place,
    Session,
    Write,
    poll,
)
from .filelock import FileLock
from .split_sqlite import split
from .statements import Statement

_RAW = {"no_parameters": True}

# An in-memory database has one connection and so one lock; it lives as long as its engine.
_memory_locks: weakref.WeakKeyDictionary[sa.Engine, threading.Lock] = weakref.WeakKeyDictionary()


class SQLite(Dialect):
    """SQLite 3.35 and later (RETURNING)."""

    name: ClassVar[str] = "sqlite"
    placeholder: ClassVar[str] = "?"
    serial: ClassVar[str] = "integer PRIMARY KEY AUTOINCREMENT"
    timestamp: ClassVar[str] = "timestamp"
    now: ClassVar[str] = "(strftime('%Y-%m-%d %H:%M:%f', 'now'))"

    def split(self, text: str) -> list[Statement]:
        return split(text)

    def messages(self, statements: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
        return ([s] for s in statements)

    def complaint(self, error: BaseException) -> Complaint | None:
        original = _original(error)
        if original is None:
            return None
        return Complaint(message=str(original).strip().partition("\n")[0], code=_code(error))

    def is_retryable(self, error: BaseException) -> bool:
        return (_code(error) or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))

    def is_unavailable(self, error: BaseException) -> bool:
        return (_code(error) or "").startswith(("SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_IOERR"))

    def is_readonly(self, error: BaseException) -> bool:
        return (_code(error) or "").startswith("SQLITE_READONLY")

    def database_name(self, engine: sa.Engine) -> str:
        name = engine.url.database
        return Path(name.removeprefix("file:").partition("?")[0]).name if name and name != ":memory:" else ":memory:"

    def place(self, connection: sa.Connection, settings: Settings) -> Place:
        return Place(_file_of(connection) or ":memory:", None)

    def history_query(self, settings: Settings) -> str:
        return f'SELECT *, 1 AS _ours FROM "{settings.table}"'

    def parse_time(self, value: Any) -> datetime | None:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                return None
        if not isinstance(value, datetime):
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)

    @contextmanager
    def lock(
        self, engine: sa.Engine, settings: Settings, *, actor: str, on_wait: OnWait, stop: threading.Event
    ) -> Iterator[MigrationLock]:
        if is_memory(engine):
            with _memory_lock(engine, settings, on_wait, stop), _borrowed(engine) as connection:
                yield _SQLiteLock(connection, Place(":memory:", None))
            return
        with _own_connection(engine, settings) as connection:
            path = _file_of(connection)
            if path is None:  # a temporary or in-memory database by another spelling
                yield _SQLiteLock(connection, Place(":memory:", None))
                return
            lock = FileLock(Path(path + ".migrate-lock"))
            try:
                poll(
                    lambda: lock.try_acquire(_about(actor)),
                    seconds=settings.lock_wait,
                    holder=lambda: _holder(lock),
                    on_wait=on_wait,
                    stop=stop,
                )
            except OSError as error:
                raise DatabaseUnavailableError(
                    f"The lock file beside the database cannot be written: {error.strerror}.",
                    hint="The database and its folder must be writable for the user that runs migrations.",
                ) from error
            try:
                yield _SQLiteLock(connection, Place(path, None))
            finally:
                lock.release()

    def lock_holder(self, engine: sa.Engine, settings: Settings) -> LockHolder | None:
        if is_memory(engine):
            held = _memory_locks.get(engine)
            here = LockHolder(os.getpid(), socket.gethostname(), None)
            return here if held is not None and held.locked() else None
        with self.reading_engine(engine).connect() as connection:
            path = _file_of(connection)
        return _holder(FileLock(Path(path + ".migrate-lock"))) if path else None

    @contextmanager
    def session(self, engine: sa.Engine, settings: Settings, lock: MigrationLock) -> Iterator[SQLiteSession]:
        with ExitStack() as stack:
            if is_memory(engine):
                connection = lock.connection
            else:
                connection = stack.enter_context(_own_connection(engine, settings))
            session = SQLiteSession(connection)
            try:
                yield session
            finally:
                session.close()

    def reading_engine(self, engine: sa.Engine) -> sa.Engine:
        name = engine.url.database or ""
        plain = name and not is_memory(engine) and not name.startswith("file:")
        if plain and not Path(name).exists() and Path(name).absolute().parent.is_dir():
            # Connecting would make the file; an empty database reads the same.
            return sa.create_engine("sqlite://", poolclass=sa.NullPool)
        return engine

    def let_go(self, engine: sa.Engine) -> None:
        if not is_memory(engine):
            engine.dispose()

    def blockers(self, engine: sa.Engine, session: Session) -> list[LockHolder]:
        return []

    def has_table(self, connection: sa.Connection, table: str, schema: str | None = None) -> bool:
        return bool(sa.inspect(connection).has_table(table, schema=schema))

    def has_column(self, connection: sa.Connection, table: str, column: str, schema: str | None = None) -> bool:
        if not self.has_table(connection, table, schema):
            return False
        return any(c["name"] == column for c in sa.inspect(connection).get_columns(table, schema=schema))


class _SQLiteLock(MigrationLock):
    def __init__(self, connection: sa.Connection, place: Place) -> None:
        self.connection = connection
        self.place = place

    def write(self, writes: Sequence[Write]) -> None:
        if not writes:
            return
        cursor = _driver(self.connection).cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            _execute(cursor, writes)
            cursor.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                cursor.execute("ROLLBACK")
            raise


class SQLiteSession(Session):
    """One connection for all scripts of a run, put back to its first settings before each of them."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self._db = _driver(connection)
        self._first = _FirstState.of(self._db)
        self._used = False
        """Whether a script may have changed settings, made temporary tables or attached databases."""
        self._guard: _Guard | None = None
        self._references = _references(self._db)
        self._violations = {child: _violations(self._db, child) for child in self._references}

    def begin(self) -> datetime:
        if self._used:
            self._restore()
        # Ignored inside a transaction; a table rebuilt with it ON would delete the rows of its children.
        self._db.execute("PRAGMA foreign_keys = OFF")
        self._db.execute("BEGIN IMMEDIATE")
        moment = self._now()
        self._guard = _Guard(self._db)
        # Setting it afresh also expires the driver's cached statements, so that the guard sees every one.
        self._db.set_authorizer(self._guard)
        return moment

    def check(self) -> None:
        if self._guard is not None and self._guard.refused:
            raise ScriptGuardError(
                f"The script tried to {self._guard.refused} by itself.",
                hint="Take the transaction control out, or declare the migration `transactional = False`.",
            )
        if not _in_transaction(self._db):
            raise ScriptGuardError(
                "The script ended the migration's transaction itself, or an error in it did.",
                hint="Take the COMMIT or ROLLBACK out, or declare the migration `transactional = False`.",
            )

    def commit(self, writes: Sequence[Write]) -> None:
        self.check()
        self._check_references(self._release_guard())
        cursor = self._db.cursor()
        try:
            _execute(cursor, writes)
        except sqlite3.IntegrityError as error:
            if "UNIQUE constraint failed" in str(error):
                raise HistoryChangedError from error
            raise
        cursor.execute("COMMIT")

    def rollback(self) -> None:
        with suppress(sqlite3.Error):  # an error may have rolled back already, a script may have closed the connection
            self._release_guard()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def begin_autocommit(self) -> datetime:
        self._restore()
        self._used = True  # nothing watches a script that runs without a transaction
        return self._now()

    def end_autocommit(self) -> None:
        left_open = self._db.in_transaction
        if left_open:
            self._db.execute("ROLLBACK")
        self._references = _references(self._db)
        self._violations = {child: _violations(self._db, child) for child in self._references}
        if left_open:
            raise ScriptGuardError(
                "The script began a transaction and left it open; it was rolled back.",
                hint="End it with COMMIT in the script.",
            )

    def cancel(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # closed already: nothing to stop
            self._db.interrupt()

    def close(self) -> None:
        """Leave the connection as it was found: that of an in-memory database is the host's. Never raises."""
        self.rollback()
        with suppress(sqlite3.Error):
            self._restore()

    def _restore(self) -> None:
        self._first.restore(self._db)
        self._used = False

    def _now(self) -> datetime:
        text = self._db.execute("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").fetchone()[0]
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    def _release_guard(self) -> _Guard:
        guard, self._guard = self._guard or _Guard(self._db), None
        self._used = self._used or guard.session_changed
        self._db.set_authorizer(None)
        return guard

    def _check_references(self, guard: _Guard) -> None:
        """Foreign keys were off while the script ran: look now, but only where it can have broken one."""
        if guard.altered:
            self._references = _references(self._db)
        else:
            for table in guard.tables:
                self._references.pop(table, None)
                if parents := _parents(self._db, table):
                    self._references[table] = parents
        for child, parents in self._references.items():
            if not (guard.altered or child in guard.tables or parents & guard.tables):
                continue
            found = _violations(self._db, child)
            if new := found - self._violations.get(child, Counter()):
                raise sqlite3.IntegrityError(_first_of(new))
            self._violations[child] = found


_PRAGMAS = (
    "foreign_keys", "defer_foreign_keys", "query_only", "busy_timeout", "recursive_triggers", "legacy_alter_table",
    "ignore_check_constraints", "writable_schema", "reverse_unordered_selects", "synchronous", "locking_mode",
)  # fmt: skip
"""What a script may set on its connection that would change what later scripts, or the host, do on it."""


@dataclass(frozen=True, slots=True)
class _FirstState:
    """How the host's own connect events left the connection."""

    pragmas: Mapping[str, object]
    databases: frozenset[str]
    temporary: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, db: sqlite3.Connection) -> _FirstState:
        """Read the state of `db`."""
        pragmas = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in _PRAGMAS}
        return cls(pragmas, cls._databases(db), cls._temporary(db))

    def restore(self, db: sqlite3.Connection) -> None:
        """Put `db` back into this state."""
        for name, value in self.pragmas.items():
            if db.execute(f"PRAGMA {name}").fetchone()[0] != value:
                db.execute(f"PRAGMA {name} = {value}")
        for kind, name in self._temporary(db) - self.temporary:
            db.execute(f'DROP {kind} IF EXISTS temp."{_quoted(name)}"')
        for name in self._databases(db) - self.databases:
            db.execute(f'DETACH "{_quoted(name)}"')

    @staticmethod
    def _databases(db: sqlite3.Connection) -> frozenset[str]:
        return frozenset(name for _number, name, _path in db.execute("PRAGMA database_list") if name != "temp")

    @staticmethod
    def _temporary(db: sqlite3.Connection) -> frozenset[tuple[str, str]]:
        kinds = "('table', 'view', 'trigger')"
        rows = db.execute(
            f"SELECT type, name FROM sqlite_temp_master WHERE type IN {kinds} AND name NOT LIKE 'sqlite@_%' ESCAPE '@'"
        )
        return frozenset((kind, name) for kind, name in rows)


class _Guard:
    """SQLite's authorizer while a script runs: refuses transaction control, notes what is touched."""

    _TOUCH = frozenset(
        (
            sqlite3.SQLITE_INSERT,
            sqlite3.SQLITE_UPDATE,
            sqlite3.SQLITE_DELETE,
            sqlite3.SQLITE_CREATE_TABLE,
            sqlite3.SQLITE_DROP_TABLE,
        )
    )
    _SESSION = frozenset(
        (
            sqlite3.SQLITE_ATTACH,
            sqlite3.SQLITE_CREATE_TEMP_TABLE,
            sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
            sqlite3.SQLITE_CREATE_TEMP_VIEW,
        )
    )

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.tables: set[str] = set()
        """In small letters, as SQLite compares them."""
        self.altered = False
        self.session_changed = False
        self.refused: str | None = None

    def __call__(self, action: int, first: str | None, *_where: str | None) -> int:
        if not self._db.in_transaction:
            # An error rolled everything back (ON CONFLICT ROLLBACK) and was hidden: what comes now would stay.
            return sqlite3.SQLITE_DENY
        if action in self._TOUCH:
            self.tables.add((first or "").lower())
        elif action == sqlite3.SQLITE_ALTER_TABLE:  # a rename rewrites the foreign keys of other tables
            self.altered = True
        elif action in self._SESSION or (action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS):
            self.session_changed = True
        elif action == sqlite3.SQLITE_TRANSACTION:
            self.refused = first or "end the transaction"
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK


def is_memory(engine: sa.Engine) -> bool:
    """Whether the database lives in this process's memory: it must never be detached or closed."""
    name = engine.url.database
    return not name or ":memory:" in name or "mode=memory" in name or engine.url.query.get("mode") == "memory"


def _references(db: sqlite3.Connection) -> dict[str, set[str]]:
    """Child table -> the tables that its foreign keys name; in small letters, as SQLite compares them."""
    rows = db.execute(
        'SELECT m.name, f."table" FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS f'
        " WHERE m.type = 'table'"
    )
    found: dict[str, set[str]] = {}
    for child, parent in rows:
        found.setdefault(child.lower(), set()).add(parent.lower())
    return found


def _parents(db: sqlite3.Connection, table: str) -> set[str]:
    return {row[2].lower() for row in db.execute(f'PRAGMA foreign_key_list("{_quoted(table)}")')}


_Violation = tuple[str, int | None, str]  # the row's table, its rowid (None in a table WITHOUT ROWID), the parent


def _violations(db: sqlite3.Connection, child: str) -> Counter[_Violation]:
    """What is wrong with the foreign keys of one table, and how often."""
    try:
        rows = db.execute(f'PRAGMA foreign_key_check("{_quoted(child)}")').fetchall()
    except sqlite3.OperationalError as error:
        # "foreign key mismatch": the parent's columns are not unique. SQLite says so only when it has to look.
        return Counter([(child, None, str(error))])
    return Counter((table, row, parent) for table, row, parent, _key in rows)


def _first_of(violations: Counter[_Violation]) -> str:
    table, row, parent = min(violations, key=str)
    where = table if row is None else f"{table} rowid {row}"
    return (
        f"FOREIGN KEY constraint failed: {violations.total()} row(s) point nowhere, the first is in {where}, "
        f"which refers to {parent}"
    )


def _in_transaction(db: sqlite3.Connection) -> bool:
    try:
        return db.in_transaction
    except sqlite3.ProgrammingError:  # closed by the script
        return False


def _quoted(name: str) -> str:
    return name.replace('"', '""')


@contextmanager
def _own_connection(engine: sa.Engine, settings: Settings) -> Iterator[sa.Connection]:
    """A connection from the app's engine that never goes back to the app's pool."""
    connection = engine.connect()
    try:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        _driver(connection).execute(f"PRAGMA busy_timeout = {settings.lock_timeout}")
        yield connection
    finally:
        # A script may have closed it; that must not hide the error before.
        with suppress(sa.exc.SQLAlchemyError, sqlite3.Error):
            connection.close()


@contextmanager
def _borrowed(engine: sa.Engine) -> Iterator[sa.Connection]:
    """The only connection of an in-memory database, given back as it was."""
    with engine.connect() as connection:
        if _driver(connection).in_transaction:  # the driver would commit it when the isolation level changes
            raise ConfigurationError(
                "The app is inside a transaction on its in-memory database, which has only this one connection.",
                hint="Commit or roll back first, for example with db.session.commit().",
            )
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def _memory_lock(engine: sa.Engine, settings: Settings, on_wait: OnWait, stop: threading.Event) -> Iterator[None]:
    lock = _memory_locks.setdefault(engine, threading.Lock())
    poll(
        lambda: lock.acquire(blocking=False),
        seconds=settings.lock_wait,
        holder=lambda: LockHolder(os.getpid(), socket.gethostname(), None),
        on_wait=on_wait,
        stop=stop,
    )
    try:
        yield
    finally:
        lock.release()


def _about(actor: str) -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since, "actor": actor})


def _holder(lock: FileLock) -> LockHolder | None:
    text = lock.holder_text()
    if text is None:
        return None
    try:
        facts = json.loads(text)
        since = datetime.fromisoformat(facts["since"])
        return LockHolder(facts["pid"], facts["host"], since, facts.get("actor"))
    except (ValueError, KeyError, TypeError):  # caught between taking the lock and writing the file
        return LockHolder(None, None, None)


def _file_of(connection: sa.Connection) -> str | None:
    """The main database's file as an absolute path; None where there is none."""
    for _number, name, path in _driver(connection).execute("PRAGMA database_list"):
        if name == "main":
            return path or None
    return None


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    found: Any = connection.connection.dbapi_connection
    assert isinstance(found, sqlite3.Connection)
    return found


def _execute(cursor: sqlite3.Cursor, writes: Sequence[Write]) -> None:
    for write in writes:
        cursor.execute(write.sql, tuple(write.values))
        if write.must_hit and cursor.rowcount == 0:
            raise HistoryChangedError


def _original(error: BaseException) -> sqlite3.Error | None:
    original = error.orig if isinstance(error, DBAPIError) else error
    return original if isinstance(original, sqlite3.Error) else None


def _code(error: BaseException) -> str | None:
    return getattr(_original(error), "sqlite_errorname", None)
