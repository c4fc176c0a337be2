"""The migration lock on both databases: one holder, whoever waits knows for whom, and death frees it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cryoprotect.migrations_ext.dialects import MigrationLock, dialect_for
from cryoprotect.migrations_ext.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    LockBusyError,
    RunCancelledError,
)
from cryoprotect.migrations_ext.model import LockHolder
from cryoprotect.migrations_ext.settings import Settings

from .conftest import ROOT, Database

HOST = socket.gethostname()


def take(
    engine: sa.Engine,
    *,
    wait: float = 20,
    actor: str = "Ada",
    on_wait: Callable[[LockHolder | None], None] = lambda _: None,
    stop: threading.Event | None = None,
    **settings: Any,
) -> AbstractContextManager[MigrationLock]:
    """The lock of the engine's database, waiting at most `wait` seconds."""
    return dialect_for(engine).lock(
        engine, Settings(lock_wait=wait, **settings), actor=actor, on_wait=on_wait, stop=stop or threading.Event()
    )


def holder_of(engine: sa.Engine, **settings: Any) -> LockHolder | None:
    return dialect_for(engine).lock_holder(engine, Settings(**settings))


@pytest.fixture
def engine(database: Database) -> Iterator[sa.Engine]:
    made = database.engine()
    with made.connect():
        """A SQLite file is made by the first who writes; a server is warmed up."""
    yield made
    made.dispose()


@dataclass
class Process:
    """Another process that takes the lock, says so in a line, and holds it until it is told to end."""

    popen: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.popen.pid

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def let_go(self) -> str:
        """Wait for its end, and return what it said since."""
        out, _ = self.popen.communicate("go\n", timeout=30)
        assert self.popen.returncode == 0
        return out


_HOLD = """
import json, sys, threading, time
import sqlalchemy as sa
from cryoprotect.migrations_ext.dialects import dialect_for
from cryoprotect.migrations_ext.settings import Settings
engine = sa.create_engine(sys.argv[1], poolclass=sa.NullPool)
settings, stop = Settings(lock_wait=30), threading.Event()
with dialect_for(engine).lock(engine, settings, actor=sys.argv[2], on_wait=lambda _: None, stop=stop):
    held = time.monotonic()
    print("held", flush=True)
    if sys.argv[3] == "hold":
        sys.stdin.readline()
    else:
        time.sleep(float(sys.argv[3]))
    print(json.dumps([held, time.monotonic()]), flush=True)
"""


@pytest.fixture
def start_process(database: Database) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(actor: str = "Grace", hold: str = "hold", *, wait: bool = True) -> Process:
        popen = subprocess.Popen(
            [sys.executable, "-c", _HOLD, database.url, actor, hold],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        process = Process(popen)
        started.append(process)
        assert popen.stdout is not None
        if wait:
            assert popen.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.popen.kill()
        process.popen.communicate()


class TestOneHolder:
    def test_among_threads(self, engine: sa.Engine) -> None:
        inside: list[int] = []
        most: list[int] = []

        def work(number: int) -> None:
            with take(engine):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.02)
                inside.remove(number)

        run_all([threading.Thread(target=work, args=(n,)) for n in range(6)])
        assert most == [1] * 6

    def test_among_processes(self, engine: sa.Engine, start_process: Callable[..., Process]) -> None:
        processes = [start_process(hold="0.2", wait=False) for _ in range(3)]
        spans = sorted(json.loads(p.let_go().splitlines()[-1]) for p in processes)
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))

    def test_it_is_free_after_an_error(self, engine: sa.Engine) -> None:
        with pytest.raises(ZeroDivisionError), take(engine):
            raise ZeroDivisionError
        with take(engine, wait=0):
            assert True

    def test_the_connection_of_the_lock_can_be_read_from_while_it_is_held(self, engine: sa.Engine) -> None:
        with take(engine) as lock:
            assert lock.connection.exec_driver_sql("SELECT 1").scalar() == 1
            assert lock.connection.exec_driver_sql("SELECT 2").scalar() == 2


class TestWaiting:
    def test_who_is_waited_for_is_said_at_once(self, engine: sa.Engine, start_process: Callable[..., Process]) -> None:
        process = start_process("Grace Hopper")
        heard: list[LockHolder | None] = []
        with pytest.raises(LockBusyError), take(engine, wait=0.3, on_wait=heard.append):
            pytest.fail("two hold the lock")
        (holder,) = heard  # and then only every five seconds
        assert holder is not None
        assert (holder.pid, holder.host, holder.actor) == (process.pid, HOST, "Grace Hopper")
        assert holder.since is not None
        assert datetime.now(UTC) - timedelta(minutes=1) < holder.since < datetime.now(UTC) + timedelta(minutes=1)

    def test_after_the_wait_the_holder_is_named(self, engine: sa.Engine, start_process: Callable[..., Process]) -> None:
        process = start_process()
        started = time.monotonic()
        with pytest.raises(LockBusyError) as caught, take(engine, wait=0.5):
            pytest.fail("two hold the lock")
        assert 0.5 <= time.monotonic() - started < 3
        assert f"process {process.pid} on {HOST} (Grace)" in caught.value.message
        assert "Waited 0.5 s" in caught.value.message
        assert caught.value.hint is not None
        assert "DB_MIGRATE_LOCK_WAIT" in caught.value.hint
        assert caught.value.exit_code == 4

    def test_whoever_does_not_want_to_wait_does_not(self, engine: sa.Engine) -> None:
        heard: list[LockHolder | None] = []
        with take(engine):
            started = time.monotonic()
            with pytest.raises(LockBusyError), take(engine, wait=0, on_wait=heard.append):
                pytest.fail("two hold the lock")
        assert time.monotonic() - started < 2
        assert heard == []

    def test_the_lock_comes_when_the_holder_lets_go(
        self, engine: sa.Engine, start_process: Callable[..., Process]
    ) -> None:
        process = start_process()
        threading.Timer(0.3, process.let_go).start()
        with take(engine):
            assert process.popen.wait(20) == 0

    def test_kill_frees_it(self, engine: sa.Engine, start_process: Callable[..., Process]) -> None:
        process = start_process()
        threading.Timer(0.2, process.kill).start()
        started = time.monotonic()
        with take(engine):
            assert time.monotonic() - started < 5
        assert holder_of(engine) is None

    def test_stop_ends_the_wait(self, engine: sa.Engine) -> None:
        stop = threading.Event()
        with take(engine):
            threading.Timer(0.2, stop.set).start()
            started = time.monotonic()
            with pytest.raises(RunCancelledError, match="nothing was changed"), take(engine, stop=stop):
                pytest.fail("two hold the lock")
            assert time.monotonic() - started < 2
        with take(engine, wait=0):
            """Free again: whoever gave up left nothing behind."""


class TestLooking:
    def test_nobody_then_somebody_then_nobody(self, engine: sa.Engine) -> None:
        assert holder_of(engine) is None
        with take(engine, actor="Ada"):
            holder = holder_of(engine)
            assert holder is not None
            assert (holder.pid, holder.host, holder.actor) == (os.getpid(), HOST, "Ada")
        assert holder_of(engine) is None

    @pytest.mark.parametrize("actor", ["x" * 200, "Jürgen O'Neill \\ 日本", "a b@c:1 d", "line\nbreak"])
    def test_the_process_is_known_whatever_the_actor_is_called(self, engine: sa.Engine, actor: str) -> None:
        with take(engine, actor=actor):
            holder = holder_of(engine)
        assert holder is not None
        assert (holder.pid, holder.host) == (os.getpid(), HOST)
        assert holder.actor is not None
        assert holder.actor[0] == actor[0]


class TestPostgreSQL:
    @pytest.fixture
    def database(self, postgres_database: Database) -> Database:
        return postgres_database

    def test_each_tracking_table_has_its_own_lock(self, database: Database, engine: sa.Engine) -> None:
        database.execute("CREATE SCHEMA tenant")
        with (
            take(engine, wait=0),
            take(engine, wait=0, table="other"),
            take(engine, wait=0, schema="tenant"),
            pytest.raises(LockBusyError),
            take(engine, wait=0, schema="public"),
        ):
            pytest.fail("two hold the lock")

    def test_waiting_does_not_hinder_create_index_concurrently(self, database: Database) -> None:
        """A waiter with an open snapshot would make it wait for ever, and leave the index invalid."""
        database.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id")
        strict = sa.create_engine(database.url, poolclass=sa.NullPool, isolation_level="REPEATABLE READ")
        waiting = threading.Event()
        stop = threading.Event()

        def wait() -> None:
            with suppress(RunCancelledError), take(strict, stop=stop, on_wait=lambda _: waiting.set()):
                pytest.fail("two hold the lock")

        with take(strict):
            waiters = [threading.Thread(target=wait) for _ in range(3)]
            for waiter in waiters:
                waiter.start()
            assert waiting.wait(10)
            worker = sa.create_engine(database.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
            with worker.connect() as connection:
                connection.exec_driver_sql("SET statement_timeout = '10s'")
                connection.exec_driver_sql("CREATE INDEX CONCURRENTLY t_id ON t (id)")
            stop.set()
            for waiter in waiters:
                waiter.join()
        assert database.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_id'::regclass") == [(True,)]

    def test_nothing_of_it_returns_to_the_hosts_pool(self, database: Database) -> None:
        host = sa.create_engine(database.url, pool_size=1, max_overflow=0, pool_timeout=2)
        with take(host) as lock:
            pid = lock.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            with host.connect() as connection:  # the pool's only place is free
                assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != pid
        assert gone(database, pid)
        host.dispose()

    def test_the_connection_lives_as_long_as_the_run(self, engine: sa.Engine) -> None:
        with take(engine, actor="Ada") as lock:
            shown = {
                name: lock.connection.exec_driver_sql(f"SHOW {name}").scalar_one()
                for name in ("idle_session_timeout", "client_connection_check_interval", "application_name")
            }
            over_tcp, idle = lock.connection.exec_driver_sql(
                "SELECT inet_client_addr() IS NOT NULL, current_setting('tcp_keepalives_idle')"
            ).one()
        assert shown["idle_session_timeout"] == "0"
        assert shown["client_connection_check_interval"] == "2s"
        assert shown["application_name"] == f"db-migrate lock {os.getpid()}@{HOST} Ada"[:63]
        assert idle == "30" or not over_tcp

    def test_whoever_has_few_rights_learns_who_it_is_too(self, database: Database, engine: sa.Engine) -> None:
        with role(database) as guest:
            limited = database.engine()

            @sa.event.listens_for(limited, "connect")
            def _as_guest(driver: Any, _record: Any) -> None:
                with driver.cursor() as cursor:
                    cursor.execute(f"SET ROLE {guest}")
                driver.commit()

            with take(engine, actor="Ada"):
                holder = holder_of(limited)
        assert holder is not None
        assert (holder.pid, holder.host) == (os.getpid(), HOST)

    def test_a_lock_whose_session_was_ended_by_the_server_is_free(self, database: Database, engine: sa.Engine) -> None:
        with take(engine) as lock:
            pid = lock.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            database.query(f"SELECT pg_terminate_backend({pid})")
            with take(engine, wait=10):
                """The end of the outer one hides nothing either."""


class TestSQLite:
    @pytest.fixture
    def database(self, sqlite_database: Database) -> Database:
        return sqlite_database

    @pytest.fixture
    def path(self, database: Database) -> Path:
        return Path(str(sa.make_url(database.url).database))

    def test_the_lock_file_lies_beside_the_database_and_is_empty_afterwards(
        self, engine: sa.Engine, path: Path
    ) -> None:
        beside = path.with_name("test.sqlite.migrate-lock")
        with take(engine):
            assert json.loads(beside.read_text())["pid"] == os.getpid()
        assert beside.read_bytes() == b""

    def test_what_a_dead_holder_wrote_is_history(
        self, engine: sa.Engine, path: Path, start_process: Callable[..., Process]
    ) -> None:
        process = start_process()
        process.kill()
        beside = path.with_name("test.sqlite.migrate-lock")
        assert json.loads(beside.read_text())["pid"] == process.pid
        assert holder_of(engine) is None

    def test_two_who_look_at_the_same_moment_do_not_take_each_other_for_the_holder(
        self, engine: sa.Engine, path: Path
    ) -> None:
        with take(engine):
            """The lock file is there from now on."""
        with path.with_name("test.sqlite.migrate-lock").open("rb") as looking:
            fcntl.flock(looking, fcntl.LOCK_SH)
            assert holder_of(engine) is None

    def test_each_file_has_its_own_lock(self, engine: sa.Engine, tmp_path: Path) -> None:
        other = sa.create_engine(f"sqlite:///{tmp_path / 'other.sqlite'}", poolclass=sa.NullPool)
        with take(engine, wait=0), take(other, wait=0):
            """Both."""

    def test_one_file_has_one_lock_by_whatever_name(self, engine: sa.Engine, path: Path, tmp_path: Path) -> None:
        (tmp_path / "link.sqlite").symlink_to(path)
        other = sa.create_engine(f"sqlite:///{tmp_path / 'link.sqlite'}", poolclass=sa.NullPool)
        with take(engine), pytest.raises(LockBusyError), take(other, wait=0):
            pytest.fail("two hold the lock")

    def test_a_lock_file_that_cannot_be_made(self, engine: sa.Engine, path: Path) -> None:
        path.with_name("test.sqlite.migrate-lock").mkdir()
        with pytest.raises(DatabaseUnavailableError, match="lock file beside the database") as caught, take(engine):
            pytest.fail("no lock was taken")
        assert caught.value.hint is not None
        assert "writable" in caught.value.hint

    @pytest.mark.parametrize("text", [b"", b"{", b"[1]", b'{"pid": 1}', b"\xff" * 5000])
    def test_a_holder_that_wrote_nothing_useful_is_a_holder(self, engine: sa.Engine, path: Path, text: bytes) -> None:
        with take(engine):
            path.with_name("test.sqlite.migrate-lock").write_bytes(text)
            assert holder_of(engine) == LockHolder(None, None, None)


SHARED = {"poolclass": sa.StaticPool, "connect_args": {"check_same_thread": False}}
MEMORY = {
    "default": {"url": "sqlite://"},
    "static": {"url": "sqlite://", **SHARED},
    "uri": {"url": "sqlite:///file:{name}?mode=memory&cache=shared&uri=true", **SHARED},
    "shared": {"url": "sqlite:///file::memory:?cache=shared&uri=true"},
}


class TestInMemory:
    """The connection that holds the database is the host's: there is no other."""

    @pytest.fixture(params=MEMORY)
    def engine(self, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
        options: dict[str, Any] = dict(MEMORY[request.param])
        made = sa.create_engine(options.pop("url").format(name=uuid.uuid4().hex), **options)
        with made.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE kept (id integer)")
        yield made
        made.dispose()

    def tables(self, engine: sa.Engine) -> set[str]:
        return set(sa.inspect(engine).get_table_names())

    def test_the_database_lives_on(self, engine: sa.Engine) -> None:
        with take(engine) as lock:
            lock.connection.exec_driver_sql("CREATE TABLE made (id integer)")
        assert self.tables(engine) == {"kept", "made"}

    def test_there_is_one_holder_among_threads(self, engine: sa.Engine) -> None:
        def wait() -> None:
            with pytest.raises(LockBusyError) as caught, take(engine, wait=0.1):
                pytest.fail("two hold the lock")
            assert f"process {os.getpid()}" in caught.value.message

        assert holder_of(engine) is None
        with take(engine):
            assert holder_of(engine) == LockHolder(os.getpid(), HOST, None)
            run_all([threading.Thread(target=wait)])
        assert holder_of(engine) is None

    def test_a_transaction_of_the_host_is_not_committed_on_the_way(self) -> None:
        engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE kept (id integer)")
        with engine.connect() as host:
            host.exec_driver_sql("INSERT INTO kept VALUES (1)")
            with pytest.raises(ConfigurationError, match="inside a transaction"), take(engine):
                pytest.fail("the host's transaction is open")
            host.rollback()
            assert host.exec_driver_sql("SELECT count(*) FROM kept").scalar() == 0
        with take(engine, wait=0):
            """And now it goes."""
        engine.dispose()


@contextmanager
def role(database: Database) -> Iterator[str]:
    """A role without any rights; roles belong to the server, so it is dropped at the end."""
    name = f"r_{uuid.uuid4().hex[:12]}"
    database.execute(f"CREATE ROLE {name}")
    try:
        yield name
    finally:
        database.execute(f"DROP ROLE {name}")


def gone(database: Database, pid: int) -> bool:
    """Whether the server's session ends within a few seconds."""
    for _ in range(100):
        if not database.query(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"):
            return True
        time.sleep(0.05)
    return False


def run_all(threads: list[threading.Thread]) -> None:
    """Run threads to their end; pytest turns an exception in one of them into a failure."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
