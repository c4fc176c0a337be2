"""PostgreSQL over psycopg2: a polled advisory lock, and one opening and one closing message per migration."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import psycopg2
import psycopg2.extensions as pg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from ..errors import ConfigurationError, ScriptGuardError
from ..model import LockHolder
from ..settings import Settings
from .base import (
    Complaint,
    Dialect,
    HistoryChangedError,
    LockLostError,
    MigrationLock,
    OnWait,
    Place,
    Session,
    Write,
    poll,
)
from .split_postgresql import split
from .statements import Statement, StatementKind

_RAW = {"no_parameters": True}  # the only way past SQLAlchemy that leaves % and : alone
_MANY_STATEMENTS = 500
_MESSAGE_BYTES = 256 * 1024

_LOCK_TIMEOUT, _DEADLOCK = "55P03", "40P01"
_DIVISION_BY_ZERO, _NO_SUCH_SAVEPOINT, _NO_TRANSACTION = "22012", "3B001", "25P01"
_UNIQUE_VIOLATION = "23505"
_READ_ONLY = ("25006", "42501")
_CLOSED_BY_US = 1  # psycopg2's `closed`; 2 is a connection that broke
# Classes: connection, authorisation, no such database; then shutdown, crash, still starting, dropped, idle too long,
# and too many connections.
_NO_CONNECTION = ("08", "28", "3D", "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "53300")


class PostgreSQL(Dialect):
    """PostgreSQL 15 and later."""

    name: ClassVar[str] = "postgresql"
    placeholder: ClassVar[str] = "%s"
    serial: ClassVar[str] = "serial PRIMARY KEY"
    timestamp: ClassVar[str] = "timestamp with time zone"
    now: ClassVar[str] = "now()"

    def split(self, text: str) -> list[Statement]:
        return split(text)

    def messages(self, statements: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
        if len(statements) < _MANY_STATEMENTS:
            yield from ([s] for s in statements)
            return
        batch: list[Statement] = []
        size = 0
        for statement in statements:
            plain = statement.kind is StatementKind.SQL
            if batch and (not plain or size + len(statement.text) > _MESSAGE_BYTES):
                yield batch
                batch, size = [], 0
            if plain:
                batch.append(statement)
                size += len(statement.text)
            else:
                yield [statement]
        if batch:
            yield batch

    def complaint(self, error: BaseException) -> Complaint | None:
        original = _original(error)
        if original is None:
            return None
        diag = original.diag
        position = diag.statement_position
        return Complaint(
            message=diag.message_primary or str(original).strip().partition("\n")[0],
            detail=diag.message_detail,
            hint=diag.message_hint,
            position=int(position) if position else None,
            code=original.pgcode,
        )

    def is_retryable(self, error: BaseException) -> bool:
        return _code(error) in (_LOCK_TIMEOUT, _DEADLOCK)

    def is_unavailable(self, error: BaseException) -> bool:
        original = _original(error)
        if original is None:
            return False
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        code = original.pgcode
        if code is None:
            return isinstance(original, psycopg2.OperationalError | psycopg2.InterfaceError)
        return code.startswith(_NO_CONNECTION)

    def is_readonly(self, error: BaseException) -> bool:
        return _code(error) in _READ_ONLY

    def database_name(self, engine: sa.Engine) -> str:
        return engine.url.database or engine.url.username or ""

    def place(self, connection: sa.Connection, settings: Settings) -> Place:
        database, schema = connection.exec_driver_sql(
            "SELECT current_database(), current_schema()", execution_options=_RAW
        ).one()
        found = settings.schema or schema
        if found is None:
            raise ConfigurationError(
                "The connection's search_path names no schema that exists, so the tracking table has no place.",
                hint="Create the schema, or set DB_MIGRATE_SCHEMA.",
            )
        return Place(database, found)

    def history_query(self, settings: Settings) -> str:
        table = settings.table
        if settings.schema:
            return f'SELECT *, true AS _ours FROM "{settings.schema}"."{table}"'
        # An unqualified name may find a table further down the search_path, where we would never write: not one row of
        # it is read then. The join makes at least one row of answer, so that an empty table tells where it is, too.
        return (
            f"SELECT m.*, o.ours AS _ours FROM (SELECT to_regclass('\"{table}\"')"
            f" IS NOT DISTINCT FROM to_regclass(format('%I.%I', current_schema(), '{table}')) AS ours) AS o"
            f' LEFT JOIN "{table}" AS m ON o.ours'
        )

    def parse_time(self, value: Any) -> datetime | None:
        if not isinstance(value, datetime):
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)

    @contextmanager
    def lock(
        self, engine: sa.Engine, settings: Settings, *, actor: str, on_wait: OnWait, stop: threading.Event
    ) -> Iterator[MigrationLock]:
        connection = _own_connection(engine)
        try:
            place = self.place(connection, settings)
            _prepare(connection, _application_name("lock", actor))
            high, low = lock_key(place, settings.table)

            def attempt() -> bool:
                # Polled, and in autocommit: a waiter that blocks in pg_advisory_lock holds a snapshot, which
                # CREATE INDEX CONCURRENTLY of the holder would wait for, for ever.
                found = connection.exec_driver_sql(
                    f"SELECT pg_try_advisory_lock({high}, {low})", execution_options=_RAW
                ).scalar_one()
                return bool(found)

            poll(
                attempt,
                seconds=settings.lock_wait,
                holder=lambda: _holder(connection, high, low),
                on_wait=on_wait,
                stop=stop,
            )
            yield _PostgreSQLLock(connection, place, (high, low))
        finally:
            _close(connection)  # ends the server's session, and the lock with it

    def lock_holder(self, engine: sa.Engine, settings: Settings) -> LockHolder | None:
        with engine.connect() as connection:
            place = self.place(connection, settings)
            return _holder(connection, *lock_key(place, settings.table))

    @contextmanager
    def session(self, engine: sa.Engine, settings: Settings, lock: MigrationLock) -> Iterator[PostgreSQLSession]:
        assert isinstance(lock, _PostgreSQLLock)
        connection = _own_connection(engine)
        try:
            yield PostgreSQLSession(connection, settings, lock)
        finally:
            _close(connection)

    def blockers(self, engine: sa.Engine, session: Session) -> list[LockHolder]:
        assert isinstance(session, PostgreSQLSession)
        with engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT pid, coalesce(client_hostname, client_addr::text), xact_start, usename, left(query, 200)"
                f" FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids({session.pid}))",
                execution_options=_RAW,
            ).all()
        return [LockHolder(r[0], r[1], self.parse_time(r[2]), r[3], r[4]) for r in rows]

    def has_table(self, connection: sa.Connection, table: str, schema: str | None = None) -> bool:
        return bool(sa.inspect(connection).has_table(table, schema=schema))

    def has_column(self, connection: sa.Connection, table: str, column: str, schema: str | None = None) -> bool:
        if not self.has_table(connection, table, schema):
            return False
        return any(c["name"] == column for c in sa.inspect(connection).get_columns(table, schema=schema))


class _PostgreSQLLock(MigrationLock):
    """A session advisory lock on a connection of its own, freed by the death of the process."""

    def __init__(self, connection: sa.Connection, place: Place, key: tuple[int, int]) -> None:
        self.connection = connection
        self.place = place
        self.key = key
        self.pid = _backend_pid(connection)

    def write(self, writes: Sequence[Write]) -> None:
        if not writes:
            return
        message = "BEGIN;" + _message(self.connection, writes) + ";COMMIT"
        try:
            _send(self.connection, message)
        except DBAPIError as error:
            with suppress(DBAPIError):  # the first error is the one to tell
                _send(self.connection, "ROLLBACK")
            if _is_missed(error):
                raise HistoryChangedError from error
            raise


class PostgreSQLSession(Session):
    """One detached connection for all scripts of a run, put back to its first settings before each of them."""

    def __init__(self, connection: sa.Connection, settings: Settings, lock: _PostgreSQLLock) -> None:
        self.connection = connection
        self._settings = settings
        self._lock = lock
        self._savepoint = ""
        self._driver: pg.connection = _driver(connection)
        self._first = _first_state(connection)
        self._encoding = self._driver.info.parameter_status("client_encoding")
        self._used = False
        self.pid = _backend_pid(connection)
        self._own = _prepare(connection, _application_name("run", settings.resolve_actor()))

    def begin(self) -> datetime:
        self._savepoint = f"sp_{secrets.token_hex(8)}"  # unguessable: a script cannot release it by accident
        # The resets in a transaction of their own: the message's first one is read-only, or serializable, if the
        # script before said so for the session.
        fresh = self._fresh()
        opening = [
            *(["BEGIN", *fresh, "COMMIT"] if fresh else []),
            "BEGIN",
            f"SET LOCAL lock_timeout = {self._settings.lock_timeout}",
            "SET LOCAL idle_in_transaction_session_timeout = 0",
            f"SET LOCAL statement_timeout = {self._settings.statement_timeout}",
            f"SAVEPOINT {self._savepoint}",
            "SELECT now()",
        ]
        moment = self.connection.exec_driver_sql(";".join(opening), execution_options=_RAW).scalar_one()
        assert isinstance(moment, datetime)
        return moment.astimezone(UTC)

    def check(self) -> None:
        if self._driver.closed == _CLOSED_BY_US:
            raise ScriptGuardError(
                "The script closed the migration's connection; the migration was rolled back.",
                hint="Leave the connection open: it belongs to the run, which closes it.",
            )
        status = self._driver.info.transaction_status
        if status == pg.TRANSACTION_STATUS_IDLE:
            raise ScriptGuardError(
                "The script ended the migration's transaction itself (COMMIT or ROLLBACK).",
                hint="Take the COMMIT or ROLLBACK out, or declare the migration `transactional = False`.",
            )
        if status == pg.TRANSACTION_STATUS_INERROR:
            raise ScriptGuardError(
                "The script hid an SQL error: the transaction is in error, so nothing it did can be kept.",
                hint="Let the error out, or put the statement that may fail into a savepoint: "
                "`with conn.connection.begin_nested():`.",
            )

    def commit(self, writes: Sequence[Write]) -> None:
        self.check()
        self._restore_encoding()
        high, low = self._lock.key
        held = (
            f"SELECT 1/count(*) AS migration_lock FROM pg_locks WHERE locktype = 'advisory' AND granted"
            f" AND classid = {high % 2**32} AND objid = {low % 2**32} AND objsubid = 2 AND pid = {self._lock.pid}"
        )
        try:
            _send(
                self.connection,
                f"RELEASE SAVEPOINT {self._savepoint};{self._identity()};"
                + _message(self.connection, writes)
                + f";{held};COMMIT",
            )
        except DBAPIError as error:
            code = _code(error)
            if code in (_NO_SUCH_SAVEPOINT, _NO_TRANSACTION):
                raise ScriptGuardError(
                    "The script ended the migration's transaction itself and began another one.",
                    hint="Take BEGIN, COMMIT and ROLLBACK out, or declare the migration `transactional = False`.",
                ) from error
            if _is_missed(error):
                raise (HistoryChangedError() if self._lock_is_held() else LockLostError()) from error
            if code == _UNIQUE_VIOLATION and _table(error) == self._settings.table:
                raise HistoryChangedError from error
            raise

    def rollback(self) -> None:
        # A connection that is gone was rolled back by the server.
        with suppress(sa.exc.SQLAlchemyError, psycopg2.Error):
            _send(self.connection, "ROLLBACK")

    def begin_autocommit(self) -> datetime:
        message = [
            *self._fresh(),
            f"SET lock_timeout = {self._settings.lock_timeout}",
            f"SET statement_timeout = {self._settings.statement_timeout}",
            "SELECT now()",
        ]
        moment = self.connection.exec_driver_sql(";".join(message), execution_options=_RAW).scalar_one()
        assert isinstance(moment, datetime)
        return moment.astimezone(UTC)

    def end_autocommit(self) -> None:
        status = self._driver.info.transaction_status
        if status in (pg.TRANSACTION_STATUS_INTRANS, pg.TRANSACTION_STATUS_INERROR):
            self.rollback()
            raise ScriptGuardError(
                "The script began a transaction and left it open; it was rolled back.",
                hint="End it with COMMIT in the script.",
            )

    def cancel(self) -> None:
        with suppress(psycopg2.Error):  # already closed: nothing to stop
            self._driver.cancel()

    def _fresh(self) -> list[str]:
        """What puts the session back to its first state; nothing the first time, when it is fresh."""
        if not self._used:
            self._used = True
            return []
        return [
            f"SET SESSION AUTHORIZATION {self._first.user}",
            "RESET ALL",
            *self._first.settings,
            f"SET ROLE {self._first.role}",
            *self._own,
            "CLOSE ALL",
            "UNLISTEN *",
            "DEALLOCATE ALL",
            "DISCARD TEMP",
            "DISCARD SEQUENCES",
            "SELECT pg_advisory_unlock_all()",
        ]

    def _identity(self) -> str:
        """Our rows are written as the role that connected, whatever role the script took on."""
        return f"SET LOCAL SESSION AUTHORIZATION {self._first.user};SET LOCAL ROLE {self._first.role}"

    def _restore_encoding(self) -> None:
        """The driver does not hear of a script's SET client_encoding, and would write our rows in the one before."""
        if self._driver.info.parameter_status("client_encoding") != self._encoding:
            _send(self.connection, f"SET client_encoding = '{self._encoding}'")

    def _lock_is_held(self) -> bool:
        try:
            holder = _holder(self._lock.connection, *self._lock.key)
        except (sa.exc.SQLAlchemyError, psycopg2.Error):
            return False
        return holder is not None


def lock_key(place: Place, table: str) -> tuple[int, int]:
    """The advisory lock's two keys, signed 32 bit, from database, schema and table."""
    digest = hashlib.sha256(f"db-migrate\0{place.database}\0{place.schema}\0{table}".encode()).digest()
    high, low = struct.unpack(">ii", digest[:8])
    return high, low


def _own_connection(engine: sa.Engine) -> sa.Connection:
    """A connection from the app's engine, with its events and arguments, that never goes back to the app's pool."""
    connection = engine.connect()
    try:
        # Order matters: after detach() the isolation level would not be set through the pool's bookkeeping.
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sa.Connection, application_name: str) -> list[str]:
    """Set what both of our connections need, and return it for the next time."""
    settings = [f"SET idle_session_timeout = 0;SET application_name = '{application_name}'"]
    _send(connection, settings[0])
    for wish in _WISHES:
        with suppress(DBAPIError):
            _send(connection, wish)
            settings.append(wish)
    return settings


# Not every platform of the server has them.
_WISHES = (
    # A killed client's statement would run to its end and take effect.
    "SET client_connection_check_interval = '2s'",
    # A machine that vanished without a word would hold the lock for hours.
    "SET tcp_keepalives_idle = 30;SET tcp_keepalives_interval = 10;SET tcp_keepalives_count = 3",
)


def _application_name(role: str, actor: str) -> str:
    """What others see of us in pg_stat_activity: at most 63 printable ASCII characters, the process first."""
    name = f"db-migrate {role} {os.getpid()}@{socket.gethostname()} {actor}"
    return "".join(c if c.isascii() and c.isprintable() and c not in "'\\" else "?" for c in name)[:63]


@dataclass(frozen=True, slots=True)
class _FirstState:
    """How the host's own connect events left the session; RESET ALL alone would lose it."""

    settings: Sequence[str]
    user: str
    role: str


def _first_state(connection: sa.Connection) -> _FirstState:
    settings, user, role = connection.exec_driver_sql(
        "SELECT array(SELECT format('SELECT set_config(%L, %L, false)', name, current_setting(name)) FROM pg_settings"
        " WHERE source = 'session' AND context IN ('user', 'superuser')),"
        " quote_ident(session_user),"
        " CASE current_setting('role') WHEN 'none' THEN 'NONE' ELSE quote_ident(current_setting('role')) END",
        execution_options=_RAW,
    ).one()
    return _FirstState(settings, user, role)


def _holder(connection: sa.Connection, high: int, low: int) -> LockHolder | None:
    row = connection.exec_driver_sql(
        "SELECT l.pid, coalesce(a.client_hostname, a.client_addr::text), a.backend_start, a.application_name"
        " FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)"
        f" WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {high % 2**32} AND l.objid = {low % 2**32}"
        " AND l.objsubid = 2 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        execution_options=_RAW,
    ).first()
    if row is None:
        return None
    backend, address, since, application = row
    actor, host, pid = _from_application_name(application or "")
    return LockHolder(
        pid=pid or backend,
        host=host or address,
        since=since.astimezone(UTC) if since else None,
        actor=actor,
    )


def _from_application_name(name: str) -> tuple[str | None, str | None, int | None]:
    """Take `db-migrate lock 4711@web01 alice` apart."""
    match = _APPLICATION_NAME.fullmatch(name)
    if match is None:
        return None, None, None
    return match["actor"] or None, match["host"] or None, int(match["pid"])


_APPLICATION_NAME = re.compile(r"db-migrate \w+ (?P<pid>\d+)@(?P<host>\S*)(?: (?P<actor>.*))?")


def _backend_pid(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()", execution_options=_RAW).scalar_one())


def _message(connection: sa.Connection, writes: Sequence[Write]) -> str:
    """Our statements as one text, values put in by the driver."""
    parts = []
    driver = _driver(connection)
    codec = pg.encodings[driver.encoding]
    with driver.cursor() as cursor:
        for write in writes:
            sql = cursor.mogrify(write.sql, write.values).decode(codec) if write.values else write.sql
            if write.must_hit:
                sql = f"WITH hit AS ({sql} RETURNING 1) SELECT 1/count(*) FROM hit"
            parts.append(sql)
    return ";".join(parts)


def _driver(connection: sa.Connection) -> pg.connection:
    found: Any = connection.connection.dbapi_connection
    assert isinstance(found, pg.connection)
    return found


def _send(connection: sa.Connection, message: str) -> None:
    connection.exec_driver_sql(message, execution_options=_RAW)


def _close(connection: sa.Connection) -> None:
    """Close for good; a connection that is already gone must not hide the error before."""
    with suppress(sa.exc.SQLAlchemyError, psycopg2.Error):
        connection.close()


def _original(error: BaseException) -> psycopg2.Error | None:
    original = error.orig if isinstance(error, DBAPIError) else error
    return original if isinstance(original, psycopg2.Error) else None


def _code(error: BaseException) -> str | None:
    original = _original(error)
    return original.pgcode if original is not None else None


def _is_missed(error: BaseException) -> bool:
    """Whether one of our own `1/count(*)` found nothing; a division in a trigger of the host's has a context."""
    original = _original(error)
    return original is not None and original.pgcode == _DIVISION_BY_ZERO and not original.diag.context


def _table(error: BaseException) -> str | None:
    original = _original(error)
    return original.diag.table_name if original is not None else None
