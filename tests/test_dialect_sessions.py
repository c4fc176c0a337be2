"""One migration's transaction on both databases: all of it or nothing, alone, and without a trace in the session."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from cryoprotect.migrations_ext.dialects import Dialect, MigrationLock, Session, Write, dialect_for
from cryoprotect.migrations_ext.dialects.base import HistoryChangedError, LockLostError
from cryoprotect.migrations_ext.dialects.postgresql import PostgreSQLSession
from cryoprotect.migrations_ext.errors import ScriptGuardError
from cryoprotect.migrations_ext.model import Header, Kind, Migration
from cryoprotect.migrations_ext.settings import Settings
from cryoprotect.migrations_ext.tracker import RowFacts, Tracker

from .conftest import Database

RAW = {"no_parameters": True}
FACTS = RowFacts(environment="development", actor="Ada", duration_ms=1)


class Desk:
    """One run by hand: the lock, the session of the scripts, and the rows that go with each."""

    def __init__(self, engine: sa.Engine, **settings: Any) -> None:
        self.engine = engine
        self.settings = Settings(**settings)
        self.dialect: Dialect = dialect_for(engine)
        self.tracker = Tracker(self.dialect, self.settings)
        self._stack = ExitStack()
        self._sessions = ExitStack()

    def __enter__(self) -> Desk:
        stop = threading.Event()
        lock = self.dialect.lock(self.engine, self.settings, actor="Ada", on_wait=lambda _: None, stop=stop)
        self.lock: MigrationLock = self._stack.enter_context(lock)
        self._stack.push(self._sessions)
        self.lock.write(self.tracker.create(self.lock.place, self.tracker.read(self.lock.connection)))
        self.renew()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def renew(self) -> None:
        """Open another session, as after a failure."""
        self._sessions.close()
        session = self.dialect.session(self.engine, self.settings, self.lock)
        self.session: Session = self._sessions.enter_context(session)

    def send(self, sql: str) -> Any:
        """What a script sends; the first value of the answer."""
        result = self.session.connection.exec_driver_sql(sql, execution_options=RAW)
        return result.scalar() if result.returns_rows else None

    def row(self, version: str, name: str = "x") -> Write:
        header = Header("c" * 64, None, reversible=True)
        migration = Migration(version, int(version), name, Kind.SQL, Path("/x"), header=header)
        return self.tracker.record(self.lock.place, migration, FACTS)

    def migrate(self, version: str, *statements: str, name: str = "x") -> None:
        """One whole migration, as the runner does it."""
        self.session.begin()
        try:
            for statement in statements:
                self.send(statement)
            self.session.check()
            self.session.commit([self.row(version, name)])
        except BaseException:
            self.session.rollback()
            raise

    def versions(self) -> list[str]:
        with self.engine.connect() as connection:
            return [row.version for row in self.tracker.read(connection).rows]


@contextmanager
def running(engine: sa.Engine, **settings: Any) -> Iterator[Desk]:
    with Desk(engine, **settings) as desk:
        yield desk


@pytest.fixture
def engine(database: Database) -> Iterator[sa.Engine]:
    made = database.engine()
    yield made
    made.dispose()


@pytest.fixture
def desk(engine: sa.Engine) -> Iterator[Desk]:
    with running(engine) as made:
        yield made


class TestAllOrNothing:
    def test_a_script_and_its_row_are_committed_together(self, desk: Desk, database: Database) -> None:
        desk.migrate("001", "CREATE TABLE a (id integer)", "INSERT INTO a VALUES (1)")
        assert database.query("SELECT id FROM a") == [(1,)]
        assert desk.versions() == ["001"]

    def test_before_the_commit_nobody_else_sees_anything(self, desk: Desk, database: Database) -> None:
        desk.session.begin()
        desk.send("CREATE TABLE a (id integer)")
        assert database.own_tables() == set()
        desk.session.commit([desk.row("001")])
        assert database.own_tables() == {"a"}

    def test_a_rollback_takes_back_definitions_too(self, desk: Desk, database: Database) -> None:
        desk.migrate("001", "CREATE TABLE a (id integer)", "INSERT INTO a VALUES (1)")
        desk.session.begin()
        desk.send("ALTER TABLE a ADD COLUMN more integer")
        desk.send("CREATE TABLE b (id integer)")
        desk.send("DELETE FROM a")
        desk.session.rollback()
        assert database.own_tables() == {"a"}
        assert database.query("SELECT * FROM a") == [(1,)]

    def test_after_a_rollback_the_next_one_works(self, desk: Desk, database: Database) -> None:
        with pytest.raises(DBAPIError):
            desk.migrate("001", "CREATE TABLE a (id integer)", "SELECT * FROM nowhere")
        desk.migrate("001", "CREATE TABLE a (id integer)")
        assert desk.versions() == ["001"]

    def test_the_moment_is_the_databases(self, desk: Desk) -> None:
        moment = desk.session.begin()
        assert moment.utcoffset() == timedelta(0)
        assert abs(moment - datetime.now(UTC)) < timedelta(minutes=5)
        desk.session.commit([desk.row("001")])
        (row,) = desk.tracker.read(desk.lock.connection).rows
        assert row.applied_at is not None
        assert abs(row.applied_at - moment) < timedelta(seconds=5)

    def test_savepoints_of_a_script_are_its_own(self, desk: Desk, database: Database) -> None:
        desk.migrate(
            "001",
            "CREATE TABLE a (id integer)",
            "SAVEPOINT mine",
            "INSERT INTO a VALUES (1)",
            "ROLLBACK TO SAVEPOINT mine",
            "INSERT INTO a VALUES (2)",
            "SAVEPOINT left_open",
        )
        assert database.query("SELECT id FROM a") == [(2,)]

    def test_what_a_script_hides_in_a_savepoint_is_no_error(self, desk: Desk, database: Database) -> None:
        desk.session.begin()
        desk.send("CREATE TABLE a (id integer)")
        desk.send("SAVEPOINT mine")
        with pytest.raises(DBAPIError):
            desk.send("INSERT INTO nowhere VALUES (1)")
        desk.send("ROLLBACK TO SAVEPOINT mine")
        desk.session.check()
        desk.session.commit([desk.row("001")])
        assert database.own_tables() == {"a"}


class TestSecondFence:
    """Behind the lock: a row whose version is there already, or whose row to remove is not."""

    def test_a_version_that_is_there_already(self, desk: Desk, database: Database) -> None:
        desk.migrate("001")
        with pytest.raises(HistoryChangedError) as caught:
            desk.migrate("001", "CREATE TABLE a (id integer)")
        assert "Another run changed the history" in caught.value.message
        assert caught.value.exit_code == 4
        assert database.own_tables() == set()
        assert desk.versions() == ["001"]

    def test_a_row_that_is_not_there_any_more(self, desk: Desk, database: Database) -> None:
        desk.migrate("001", "CREATE TABLE a (id integer)")
        (row,) = desk.tracker.read(desk.lock.connection).rows
        removal = desk.tracker.remove(desk.lock.place, row)
        desk.lock.write([removal])
        desk.session.begin()
        desk.send("DROP TABLE a")
        with pytest.raises(HistoryChangedError):
            desk.session.commit([removal])
        desk.session.rollback()
        assert database.own_tables() == {"a"}

    def test_a_second_runner_without_the_lock(self, postgres_database: Database) -> None:
        """Both are between BEGIN and COMMIT at the same time: one is in, the other did nothing."""
        engine = postgres_database.engine()
        with running(engine) as first, first.dialect.session(engine, first.settings, first.lock) as second:
            first.session.begin()
            second.begin()
            second.connection.exec_driver_sql("CREATE TABLE second (id integer)")
            first.send("CREATE TABLE first (id integer)")
            first.session.commit([first.row("001")])
            with pytest.raises(HistoryChangedError):
                second.commit([first.row("001")])
            second.rollback()
        assert postgres_database.own_tables() == {"first"}

    def test_a_unique_violation_of_the_script_is_the_scripts(self, desk: Desk) -> None:
        with pytest.raises(DBAPIError, match=r"(?i)unique"):
            desk.migrate(
                "001", "CREATE TABLE a (id integer UNIQUE)", "INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (1)"
            )


class TestOutsideATransaction:
    """A migration that declares `transactional = False`."""

    def test_every_statement_counts_by_itself(self, desk: Desk, database: Database) -> None:
        desk.session.begin_autocommit()
        desk.send("CREATE TABLE a (id integer)")
        assert database.own_tables() == {"a"}
        desk.send("VACUUM")
        desk.session.end_autocommit()

    def test_its_own_transactions_are_its_own(self, desk: Desk, database: Database) -> None:
        desk.session.begin_autocommit()
        for statement in ("BEGIN", "CREATE TABLE a (id integer)", "ROLLBACK"):
            desk.send(statement)
        for statement in ("BEGIN", "CREATE TABLE b (id integer)", "COMMIT"):
            desk.send(statement)
        desk.session.end_autocommit()
        assert database.own_tables() == {"b"}

    def test_one_that_it_leaves_open_is_rolled_back_and_said(self, desk: Desk, database: Database) -> None:
        desk.session.begin_autocommit()
        desk.send("BEGIN")
        desk.send("CREATE TABLE a (id integer)")
        with pytest.raises(ScriptGuardError, match="left it open; it was rolled back"):
            desk.session.end_autocommit()
        assert database.own_tables() == set()
        desk.migrate("001", "CREATE TABLE b (id integer)")
        assert database.own_tables() == {"b"}

    def test_an_ordinary_one_may_follow(self, desk: Desk) -> None:
        moment = desk.session.begin_autocommit()
        assert abs(moment - datetime.now(UTC)) < timedelta(minutes=5)
        desk.session.end_autocommit()
        desk.migrate("001", "CREATE TABLE a (id integer)")
        desk.session.begin_autocommit()
        desk.session.end_autocommit()
        assert desk.versions() == ["001"]


LONG = {
    "postgresql": "SELECT pg_sleep(30)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000000) SELECT max(i) FROM n",
}


class TestCancelling:
    def test_from_another_thread(self, desk: Desk, database: Database) -> None:
        desk.session.begin()
        desk.send("CREATE TABLE a (id integer)")
        threading.Timer(0.3, desk.session.cancel).start()
        started = time.monotonic()
        with pytest.raises(DBAPIError, match=r"cancel|interrupt"):
            desk.send(LONG[database.kind])
        assert time.monotonic() - started < 5
        desk.session.rollback()
        assert database.own_tables() == set()

    def test_when_nothing_runs(self, desk: Desk) -> None:
        desk.session.cancel()
        desk.migrate("001", "CREATE TABLE a (id integer)")

    def test_when_everything_is_over(self, engine: sa.Engine) -> None:
        with running(engine) as desk:
            pass
        desk.session.cancel()
        desk.session.rollback()


def close_driver(desk: Desk) -> None:
    driver: Any = desk.session.connection.connection.dbapi_connection
    driver.close()


class TestClosedByTheScript:
    def test_it_is_told_so(self, engine: sa.Engine, database: Database) -> None:
        with running(engine) as desk:
            desk.session.begin()
            desk.send("CREATE TABLE a (id integer)")
            close_driver(desk)
            with pytest.raises(ScriptGuardError):
                desk.session.check()
            desk.session.rollback()
        assert database.own_tables() == set()


# --- PostgreSQL


@pytest.fixture
def pg(postgres_database: Database) -> Iterator[Desk]:
    engine = postgres_database.engine()
    with running(engine) as made:
        yield made


class TestPostgreSQLGuards:
    @pytest.mark.parametrize(
        ("statements", "says"),
        [
            (["COMMIT"], "ended the migration's transaction itself"),
            (["ROLLBACK"], "ended the migration's transaction itself"),
            (["COMMIT; BEGIN"], "began another one"),
            (["COMMIT", "BEGIN"], "began another one"),
            (["ROLLBACK; BEGIN"], "began another one"),
            (["COMMIT AND CHAIN"], "began another one"),
            (["ROLLBACK AND CHAIN"], "began another one"),
            (["BEGIN", "COMMIT"], "ended the migration's transaction itself"),
            (["PREPARE TRANSACTION 'x'"], None),
        ],
    )
    def test_who_ends_the_transaction_gets_no_row(self, pg: Desk, statements: list[str], says: str | None) -> None:
        pg.session.begin()
        pg.send("CREATE TABLE a (id integer)")
        if says is None:  # switched off on this server, as by default: an error as any
            with pytest.raises(DBAPIError):
                pg.send(statements[0])
        else:
            for statement in statements:
                pg.send(statement)
            with pytest.raises(ScriptGuardError, match=says):
                pg.session.commit([pg.row("001")])
        pg.session.rollback()
        assert pg.versions() == []

    def test_a_hidden_error_is_found(self, pg: Desk, postgres_database: Database) -> None:
        """COMMIT would silently be a ROLLBACK."""
        pg.session.begin()
        pg.send("CREATE TABLE a (id integer)")
        with pytest.raises(DBAPIError):
            pg.send("SELECT 1/0")
        for refuse in (pg.session.check, lambda: pg.session.commit([pg.row("001")])):
            with pytest.raises(ScriptGuardError, match="hid an SQL error") as caught:
                refuse()
        assert caught.value.hint is not None
        assert "begin_nested" in caught.value.hint
        pg.session.rollback()
        assert pg.versions() == []

    def test_a_lock_that_was_lost(self, pg: Desk, postgres_database: Database) -> None:
        pid = pg.lock.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        pg.session.begin()
        pg.send("CREATE TABLE a (id integer)")
        end_session(postgres_database, pid)
        with pytest.raises(LockLostError) as caught:
            pg.session.commit([pg.row("001")])
        assert "lock was lost" in caught.value.message
        pg.session.rollback()
        assert postgres_database.own_tables() == set()
        assert pg.versions() == []

    def test_a_lock_that_somebody_else_took_meanwhile(self, pg: Desk, postgres_database: Database) -> None:
        pid = pg.lock.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        pg.session.begin()
        pg.send("CREATE TABLE a (id integer)")
        end_session(postgres_database, pid)
        with running(postgres_database.engine()) as other:
            other.migrate("002")
            with pytest.raises(LockLostError):
                pg.session.commit([pg.row("001")])
            pg.session.rollback()
        assert pg.versions() == ["002"]

    def test_a_deferred_constraint_speaks_at_the_commit(self, pg: Desk, postgres_database: Database) -> None:
        with pytest.raises(sa.exc.IntegrityError, match="foreign key") as caught:
            pg.migrate(
                "001",
                "CREATE TABLE p (id integer PRIMARY KEY)",
                "CREATE TABLE c (p_id integer REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
                "INSERT INTO c VALUES (7)",
            )
        complaint = pg.dialect.complaint(caught.value)
        assert complaint is not None
        assert complaint.detail == 'Key (p_id)=(7) is not present in table "p".'
        assert postgres_database.own_tables() == set()
        assert pg.versions() == []

    def test_a_division_by_zero_at_the_commit_is_no_lost_lock(self, pg: Desk) -> None:
        with pytest.raises(sa.exc.DataError, match="division by zero"):
            pg.migrate(
                "001",
                "CREATE TABLE a (id integer)",
                "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1/0; RETURN NULL; END $$",
                "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON a DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION late()",
                "INSERT INTO a VALUES (1)",
            )
        assert pg.versions() == []

    def test_a_session_that_was_cut_can_be_rolled_back(self, pg: Desk, postgres_database: Database) -> None:
        pg.session.begin()
        pg.send("CREATE TABLE a (id integer)")
        end_session(postgres_database, pg.send("SELECT pg_backend_pid()"))
        with pytest.raises(DBAPIError) as caught:
            pg.session.commit([pg.row("001")])
        assert pg.dialect.is_unavailable(caught.value)
        pg.session.rollback()
        pg.session.rollback()
        assert postgres_database.own_tables() == set()


# What a script leaves in its session, how that is seen, and what is seen in a fresh one.
LEFTOVERS = {
    "search_path": (["SET search_path = nowhere"], "SHOW search_path"),
    "an empty search_path": (["SELECT set_config('search_path', '', false)"], "SHOW search_path"),
    "role": (["SET ROLE {guest}"], "SELECT current_user"),
    "session authorization": (["SET SESSION AUTHORIZATION {guest}"], "SELECT session_user || current_user"),
    "statement_timeout": (["SET statement_timeout = '7s'"], "SHOW statement_timeout"),
    "lock_timeout": (["SET lock_timeout = '7s'"], "SHOW lock_timeout"),
    "time zone": (["SET TIME ZONE 'Asia/Kathmandu'"], "SHOW timezone"),
    "read only": (["SET default_transaction_read_only = on"], "SHOW transaction_read_only"),
    "isolation": (["SET default_transaction_isolation = serializable"], "SHOW transaction_isolation"),
    "client encoding": (["SET client_encoding = 'latin1'"], "SHOW client_encoding"),
    "quoting": (["SET standard_conforming_strings = off"], "SHOW standard_conforming_strings"),
    "triggers": (["SET session_replication_role = replica"], "SHOW session_replication_role"),
    "a setting of its own": (["SET my.tenant = 'x'"], "SELECT coalesce(current_setting('my.tenant', true), '')"),
    "temporary table": (["CREATE TEMPORARY TABLE scratch (id integer)"], "SELECT to_regclass('scratch') IS NULL"),
    "prepared statement": (["PREPARE q AS SELECT 1"], "SELECT count(*) FROM pg_prepared_statements"),
    "cursor": (["DECLARE c CURSOR WITH HOLD FOR SELECT 1"], "SELECT count(*) FROM pg_cursors WHERE name = 'c'"),
    "channel": (["LISTEN news"], "SELECT count(*) FROM pg_listening_channels()"),
    "advisory lock": (
        ["SELECT pg_advisory_lock(42)"],
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND pid = pg_backend_pid()",
    ),
}  # fmt: skip


@pytest.fixture
def guest(postgres_database: Database) -> Iterator[str]:
    """A role without any rights; roles belong to the server, so it is dropped at the end."""
    name = f"r_{uuid.uuid4().hex[:12]}"
    postgres_database.execute(f"CREATE ROLE {name}")
    yield name
    postgres_database.execute(f"DROP OWNED BY {name}")
    postgres_database.execute(f"DROP ROLE {name}")


class TestPostgreSQLSessionState:
    """Nothing that a script sets reaches the next one."""

    def test_what_a_script_leaves_behind_is_gone_for_the_next(self, postgres_database: Database, guest: str) -> None:
        with running(postgres_database.engine()) as desk:
            for number, (what, (leave, look)) in enumerate(LEFTOVERS.items(), 1):
                desk.session.begin()
                fresh = desk.send(look)
                for statement in leave:
                    desk.send(statement.format(guest=guest))
                desk.session.commit([desk.row(str(number))])
                # The first two are for the next transaction; the third is put back for our rows.
                if what not in ("isolation", "read only", "client encoding"):
                    assert desk.send(look) != fresh, what
                desk.session.begin()
                assert desk.send(look) == fresh, what
                desk.session.rollback()
            assert len(desk.versions()) == len(LEFTOVERS)

    def test_nor_for_one_without_a_transaction(self, postgres_database: Database, guest: str) -> None:
        with running(postgres_database.engine()) as desk:
            for what, (leave, look) in LEFTOVERS.items():
                desk.session.begin_autocommit()
                fresh = desk.send(look)
                for statement in leave:
                    desk.send(statement.format(guest=guest))
                desk.session.end_autocommit()
                desk.session.begin_autocommit()
                assert desk.send(look) == fresh, what
                desk.session.end_autocommit()

    def test_what_the_host_set_on_connecting_stays(self, postgres_database: Database, guest: str) -> None:
        postgres_database.execute("CREATE SCHEMA app")
        postgres_database.execute(f"GRANT ALL ON SCHEMA app TO {guest}")
        engine = postgres_database.engine()
        on_connect(engine, "SET search_path = app", "SET work_mem = '17MB'", f"SET ROLE {guest}")
        look = "SELECT concat_ws(' ', current_user, current_setting('search_path'), current_setting('work_mem'))"
        with running(engine) as desk:
            for number in (1, 2, 3):
                desk.session.begin()
                assert desk.send(look) == f"{guest} app 17MB"
                for statement in ("SET search_path = public", "RESET work_mem", "RESET ROLE"):
                    desk.send(statement)
                desk.session.commit([desk.row(str(number))])
            desk.session.begin_autocommit()
            assert desk.send(look) == f"{guest} app 17MB"
            desk.session.end_autocommit()
        owner = "SELECT tableowner, schemaname FROM pg_tables WHERE tablename = 'migrations'"
        assert postgres_database.query(owner) == [(guest, "app")]

    def test_a_host_that_acts_as_somebody_else(self, postgres_database: Database, guest: str) -> None:
        postgres_database.execute(f"CREATE SCHEMA app AUTHORIZATION {guest}")
        engine = postgres_database.engine()
        on_connect(engine, f"SET SESSION AUTHORIZATION {guest}", "SET search_path = app")
        with running(engine) as desk:
            for number in (1, 2):
                desk.session.begin()
                assert desk.send("SELECT session_user") == guest
                desk.send("RESET SESSION AUTHORIZATION")
                desk.session.commit([desk.row(str(number))])

    def test_our_rows_are_written_whatever_the_script_became(self, postgres_database: Database, guest: str) -> None:
        postgres_database.execute(f"REVOKE ALL ON SCHEMA public FROM {guest}")
        name = "a\\b'c\"d_Größe_%s"
        with running(postgres_database.engine()) as desk:
            desk.migrate("001", f"SET ROLE {guest}", name=name)
            desk.migrate("002", f"SET SESSION AUTHORIZATION {guest}", name=name)
            desk.migrate("003", "SELECT set_config('search_path', '', false)", name=name)
            desk.migrate("004", "SET escape_string_warning = off; SET standard_conforming_strings = off", name=name)
            desk.migrate("005", "SET client_encoding = 'latin1'", name=name)
            desk.migrate("006", "SET lock_timeout = 1; SET statement_timeout = 0", name=name)
            rows = desk.tracker.read(desk.lock.connection).rows
        assert [row.name for row in rows] == [name] * 6

    def test_nothing_returns_to_the_hosts_pool(self, postgres_database: Database) -> None:
        host = sa.create_engine(postgres_database.url, pool_size=2, max_overflow=0, pool_timeout=2)
        with host.connect() as connection:
            before = connection.exec_driver_sql("SHOW search_path").scalar_one()
        with running(host) as desk:
            desk.migrate("001", "SET search_path = nowhere")
            pid = desk.send("SELECT pg_backend_pid()")
            with host.connect() as one, host.connect() as two:  # both places of the pool are the host's
                assert pid not in {c.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for c in (one, two)}
        end_session(postgres_database, pid)
        with host.connect() as one, host.connect() as two:
            assert [c.exec_driver_sql("SHOW search_path").scalar_one() for c in (one, two)] == [before] * 2
        host.dispose()

    def test_settings_of_the_run_are_in_force_each_time(self, postgres_database: Database) -> None:
        with running(postgres_database.engine(), lock_timeout=300, statement_timeout=9000) as desk:
            for number in (1, 2):
                desk.session.begin()
                assert desk.send("SHOW lock_timeout") == "300ms"
                assert desk.send("SHOW statement_timeout") == "9s"
                assert desk.send("SHOW idle_in_transaction_session_timeout") == "0"
                assert desk.send("SHOW idle_session_timeout") == "0"
                assert desk.send("SHOW client_connection_check_interval") == "2s"
                assert desk.send("SHOW application_name").startswith("db-migrate run ")
                desk.session.commit([desk.row(str(number))])
            desk.session.begin_autocommit()
            assert desk.send("SHOW lock_timeout") == "300ms"
            assert desk.send("SHOW statement_timeout") == "9s"
            assert desk.send("SHOW idle_session_timeout") == "0"
            desk.session.end_autocommit()


class TestPostgreSQLWaiting:
    def test_a_lock_timeout_may_be_tried_again_and_says_who(self, postgres_database: Database) -> None:
        postgres_database.execute("CREATE TABLE a (id integer)")
        engine = postgres_database.engine()
        seen: list[Any] = []
        with running(engine, lock_timeout=700) as desk, engine.connect() as reader:
            pid = reader.exec_driver_sql("SELECT pg_backend_pid() FROM (SELECT count(*) FROM a) AS n").scalar_one()
            assert desk.dialect.blockers(engine, desk.session) == []
            threading.Timer(0.3, lambda: seen.extend(desk.dialect.blockers(engine, desk.session))).start()
            with pytest.raises(DBAPIError) as caught:
                desk.migrate("001", "ALTER TABLE a ADD COLUMN b integer")
            assert desk.dialect.is_retryable(caught.value)
            assert not desk.dialect.is_unavailable(caught.value)
            reader.rollback()
            desk.migrate("001", "ALTER TABLE a ADD COLUMN b integer")
        (blocker,) = seen
        assert blocker.pid == pid
        assert "SELECT pg_backend_pid()" in blocker.query

    def test_a_deadlock_may_be_tried_again(self, postgres_database: Database) -> None:
        for table in ("a", "b"):
            postgres_database.execute(f"CREATE TABLE {table} (id integer)")
        engine = postgres_database.engine()
        with running(engine, lock_timeout=0) as desk, engine.connect() as other:
            other.exec_driver_sql("SET deadlock_timeout = '30s'")  # so that ours is the victim
            other.exec_driver_sql("LOCK b")
            desk.session.begin()
            desk.send("SET LOCAL deadlock_timeout = '100ms'")
            desk.send("LOCK a")
            waiter = threading.Thread(target=lambda: other.exec_driver_sql("LOCK a"))
            waiter.start()
            with pytest.raises(DBAPIError) as caught:
                desk.send("LOCK b")
            desk.session.rollback()
            waiter.join(10)
            other.rollback()
            assert desk.dialect.is_retryable(caught.value)

    def test_a_statement_timeout_is_final(self, postgres_database: Database) -> None:
        with running(postgres_database.engine(), statement_timeout=200) as desk:
            with pytest.raises(DBAPIError, match="statement timeout") as caught:
                desk.migrate("001", "SELECT pg_sleep(10)")
            assert not desk.dialect.is_retryable(caught.value)

    def test_an_index_can_be_built_concurrently(self, pg: Desk, postgres_database: Database) -> None:
        pg.migrate("001", "CREATE TABLE a (id integer)")
        pg.session.begin_autocommit()
        pg.send("CREATE INDEX CONCURRENTLY a_id ON a (id)")
        pg.session.end_autocommit()
        assert postgres_database.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_id'::regclass") == [
            (True,)
        ]


class TestPostgreSQLComplaints:
    def test_where_the_server_points(self, pg: Desk) -> None:
        with pytest.raises(DBAPIError) as caught:
            pg.migrate("001", "SELECT 1,\n  nowhere FROM pg_class")
        complaint = pg.dialect.complaint(caught.value)
        assert complaint is not None
        assert (complaint.message, complaint.position, complaint.code) == (
            'column "nowhere" does not exist',
            13,
            "42703",
        )

    def test_where_it_does_not(self, pg: Desk) -> None:
        with pytest.raises(DBAPIError) as caught:
            pg.migrate("001", "CREATE TABLE migrations (id integer)")
        complaint = pg.dialect.complaint(caught.value)
        assert complaint is not None
        assert (complaint.message, complaint.position) == ('relation "migrations" already exists', None)

    def test_what_is_no_databases_error(self, pg: Desk) -> None:
        assert pg.dialect.complaint(ValueError("x")) is None
        assert not pg.dialect.is_unavailable(ValueError("x"))

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql+psycopg2://u:p@127.0.0.1:1/d",
            "postgresql+psycopg2://u:p@/d?host=/nowhere",
            "postgresql+psycopg2://u:p@no-such-host.invalid/d",
        ],
    )
    def test_a_server_that_is_not_there(self, url: str) -> None:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with pytest.raises(DBAPIError) as caught, running(engine):
            pytest.fail("connected")
        assert dialect_for(engine).is_unavailable(caught.value)

    def test_a_database_that_is_not_there(self, postgres_database: Database) -> None:
        url = sa.make_url(postgres_database.url).set(database="no_such_database")
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with pytest.raises(DBAPIError) as caught, running(engine):
            pytest.fail("connected")
        assert dialect_for(engine).is_unavailable(caught.value)

    def test_a_database_that_only_reads(self, postgres_database: Database) -> None:
        engine = sa.create_engine(
            postgres_database.url,
            poolclass=sa.NullPool,
            connect_args={"options": "-c default_transaction_read_only=on"},
        )
        with pytest.raises(DBAPIError) as caught, running(engine):
            pytest.fail("written")
        assert dialect_for(engine).is_readonly(caught.value)


# --- SQLite


@pytest.fixture
def lite(sqlite_database: Database) -> Iterator[Desk]:
    with running(sqlite_database.engine()) as made:
        yield made


class TestSQLiteGuards:
    @pytest.mark.parametrize("statement", ["COMMIT", "END", "ROLLBACK", "BEGIN", "COMMIT -- to be sure"])
    def test_transaction_control_is_refused_on_the_spot(
        self, lite: Desk, sqlite_database: Database, statement: str
    ) -> None:
        lite.session.begin()
        lite.send("CREATE TABLE a (id integer)")
        with pytest.raises(DBAPIError, match="not authorized"):
            lite.send(statement)
        for refuse in (lite.session.check, lambda: lite.session.commit([lite.row("001")])):
            with pytest.raises(ScriptGuardError, match=r"tried to (COMMIT|ROLLBACK|BEGIN) by itself"):
                refuse()
        lite.session.rollback()
        assert sqlite_database.own_tables() == set()
        assert lite.versions() == []

    @pytest.mark.parametrize("method", ["commit", "rollback"])
    def test_by_the_drivers_own_methods_too(self, lite: Desk, sqlite_database: Database, method: str) -> None:
        lite.session.begin()
        lite.send("CREATE TABLE a (id integer)")
        driver: Any = lite.session.connection.connection.dbapi_connection
        with pytest.raises(Exception, match="not authorized"):
            getattr(driver, method)()
        with pytest.raises(ScriptGuardError):
            lite.session.check()
        lite.session.rollback()
        assert sqlite_database.own_tables() == set()

    def test_an_error_that_ends_the_transaction_is_found(self, lite: Desk, sqlite_database: Database) -> None:
        """ON CONFLICT ROLLBACK takes everything back; what a script that hides it sends afterwards must not stay."""
        lite.session.begin()
        lite.send("CREATE TABLE a (id integer PRIMARY KEY)")
        lite.send("INSERT INTO a VALUES (1)")
        with pytest.raises(DBAPIError, match="UNIQUE"):
            lite.send("INSERT OR ROLLBACK INTO a VALUES (1)")
        with pytest.raises(DBAPIError, match="not authorized"):
            lite.send("CREATE TABLE b (id integer)")
        with pytest.raises(ScriptGuardError, match="or an error in it did"):
            lite.session.check()
        lite.session.rollback()
        assert sqlite_database.own_tables() == set()

    def test_the_guard_goes_with_the_migration(self, lite: Desk) -> None:
        lite.migrate("001", "CREATE TABLE a (id integer)")
        lite.session.begin_autocommit()
        for statement in ("BEGIN", "INSERT INTO a VALUES (1)", "COMMIT"):
            lite.send(statement)
        lite.session.end_autocommit()
        lite.lock.write([lite.row("002")])

    def test_a_statement_that_the_driver_has_cached_is_refused_as_well(self, lite: Desk) -> None:
        lite.session.begin_autocommit()
        lite.send("BEGIN")
        lite.send("COMMIT")
        lite.session.end_autocommit()
        lite.session.begin()
        with pytest.raises(DBAPIError, match="not authorized"):
            lite.send("COMMIT")
        lite.session.rollback()


FAMILY = (
    "CREATE TABLE p (id integer PRIMARY KEY, name text)",
    "CREATE TABLE c (id integer PRIMARY KEY, p_id integer REFERENCES P (id) ON DELETE CASCADE)",
    "INSERT INTO p VALUES (1, 'one')",
    "INSERT INTO c VALUES (10, 1), (11, 1)",
)


class TestSQLiteForeignKeys:
    @pytest.fixture(params=["off", "on"])
    def lite(self, request: pytest.FixtureRequest, sqlite_database: Database) -> Iterator[Desk]:
        """A host leaves them off, as SQLite does, or switches them on for every connection."""
        engine = sqlite_database.engine()
        if request.param == "on":
            on_connect(engine, "PRAGMA foreign_keys = ON")
        with running(engine) as made:
            made.migrate("001", *FAMILY)
            yield made

    def test_a_table_can_be_rebuilt_without_losing_its_children(self, lite: Desk, sqlite_database: Database) -> None:
        lite.migrate(
            "002",
            "CREATE TABLE new_p (id integer PRIMARY KEY, name text NOT NULL)",
            "INSERT INTO new_p SELECT * FROM p",
            "DROP TABLE p",
            "ALTER TABLE new_p RENAME TO p",
        )
        assert sqlite_database.query("SELECT count(*) FROM c") == [(2,)]

    @pytest.mark.parametrize("renewed", [False, True])
    @pytest.mark.parametrize(
        "statement",
        [
            "INSERT INTO c VALUES (12, 99)",
            "UPDATE c SET p_id = 99",
            "DELETE FROM p",
            "UPDATE p SET id = 5",
            "DROP TABLE p",
            "INSERT OR REPLACE INTO C VALUES (10, 98)",
        ],
    )
    def test_what_a_script_breaks_is_found_before_the_commit(
        self, lite: Desk, sqlite_database: Database, statement: str, renewed: bool
    ) -> None:
        if renewed:
            lite.renew()
        with pytest.raises(Exception, match="FOREIGN KEY constraint failed") as caught:
            lite.migrate("002", statement)
        complaint = lite.dialect.complaint(caught.value)
        assert complaint is not None
        assert "point nowhere" in complaint.message
        assert sqlite_database.query("SELECT id, p_id FROM c ORDER BY id") == [(10, 1), (11, 1)]
        assert sqlite_database.query("SELECT id FROM p") == [(1,)]
        assert lite.versions() == ["001"]

    def test_a_new_table_is_looked_at_too(self, lite: Desk, sqlite_database: Database) -> None:
        with pytest.raises(Exception, match="FOREIGN KEY constraint failed"):
            lite.migrate("002", "CREATE TABLE d (c_id integer REFERENCES c (id))", "INSERT INTO d VALUES (77)")
        assert sqlite_database.own_tables() == {"p", "c"}
        lite.migrate("002", "CREATE TABLE d (c_id integer REFERENCES c (id))", "INSERT INTO d VALUES (10), (NULL)")

    def test_deleting_cascades_to_nobody_while_a_script_runs(self, lite: Desk) -> None:
        """They are off: a script that wants the children gone says so."""
        lite.migrate("002", "DELETE FROM c", "DELETE FROM p")
        assert lite.versions() == ["001", "002"]

    def test_what_was_broken_before_is_nobodys_fault(self, lite: Desk, sqlite_database: Database) -> None:
        sqlite_database.execute("INSERT INTO c VALUES (20, 500)")
        lite.renew()
        lite.migrate("002", "UPDATE p SET name = 'uno'", "INSERT INTO c VALUES (12, 1)")
        with pytest.raises(Exception, match=r"1 row\(s\) point nowhere, the first is in c rowid 21"):
            lite.migrate("003", "INSERT INTO c VALUES (21, 500)")
        lite.migrate("003", "DELETE FROM c WHERE id = 20")
        with pytest.raises(Exception, match="c rowid 20"):  # mended once, it may not break again
            lite.migrate("004", "INSERT INTO c VALUES (20, 500)")

    def test_one_more_in_a_table_without_rowids_is_one_too_many(self, lite: Desk, sqlite_database: Database) -> None:
        sqlite_database.execute("CREATE TABLE w (k text PRIMARY KEY, p_id REFERENCES p (id)) WITHOUT ROWID")
        sqlite_database.execute("INSERT INTO w VALUES ('old', 500)")
        lite.renew()
        lite.migrate("002", "INSERT INTO w VALUES ('fine', 1)")
        with pytest.raises(Exception, match=r"1 row\(s\) point nowhere, the first is in w,"):
            lite.migrate("003", "INSERT INTO w VALUES ('new', 500)")

    def test_a_reference_that_never_could_work_stops_nobody_else(self, lite: Desk, sqlite_database: Database) -> None:
        """`foreign key mismatch`: SQLite takes such a definition, and speaks only when it has to look."""
        sqlite_database.execute("CREATE TABLE odd (name text REFERENCES p (name))")
        sqlite_database.execute("INSERT INTO odd VALUES ('one')")
        lite.renew()
        lite.migrate("002", "UPDATE p SET name = 'uno'", "CREATE TABLE fine (id integer)")

    def test_the_hosts_choice_is_in_force_without_a_transaction(self, lite: Desk) -> None:
        lite.renew()
        lite.session.begin_autocommit()
        hosts = lite.send("PRAGMA foreign_keys")
        lite.session.end_autocommit()
        lite.migrate("002", "CREATE TABLE z (id integer)")
        lite.session.begin_autocommit()
        assert lite.send("PRAGMA foreign_keys") == hosts
        lite.session.end_autocommit()


class TestSQLiteSessionState:
    LEFTOVERS = (
        ("PRAGMA recursive_triggers = ON", "PRAGMA recursive_triggers"),
        ("PRAGMA ignore_check_constraints = ON", "PRAGMA ignore_check_constraints"),
        ("PRAGMA legacy_alter_table = ON", "PRAGMA legacy_alter_table"),
        ("PRAGMA busy_timeout = 1", "PRAGMA busy_timeout"),
        ("PRAGMA defer_foreign_keys = ON", "PRAGMA defer_foreign_keys"),
        ("CREATE TEMPORARY TABLE scratch (id integer)", "SELECT count(*) FROM sqlite_temp_master"),
        ("CREATE TEMPORARY VIEW seen AS SELECT 1", "SELECT count(*) FROM sqlite_temp_master"),
        ("CREATE TEMPORARY TABLE migrations (id integer)", "SELECT count(*) FROM sqlite_temp_master"),
    )

    @pytest.mark.parametrize(("leave", "look"), LEFTOVERS)
    def test_what_a_script_leaves_behind_is_gone_for_the_next(self, lite: Desk, leave: str, look: str) -> None:
        lite.session.begin()
        fresh = lite.send(look)
        lite.send(leave)
        if "migrations" in leave:  # it stands before ours, so that our row cannot be written
            with pytest.raises(Exception, match="no column named"):
                lite.session.commit([lite.row("001")])
            lite.session.rollback()
        else:
            lite.session.commit([lite.row("001")])
        lite.session.begin()
        assert lite.send(look) == fresh
        lite.session.rollback()

    def test_a_database_that_a_script_attached(self, lite: Desk, tmp_path: Path) -> None:
        lite.session.begin_autocommit()
        lite.send(f"ATTACH '{tmp_path / 'other.sqlite'}' AS other")
        lite.send("PRAGMA query_only = ON")
        lite.session.end_autocommit()
        lite.session.begin()
        rows = lite.session.connection.exec_driver_sql("PRAGMA database_list").all()
        assert {row[1] for row in rows} - {"temp"} == {"main"}
        lite.session.commit([lite.row("001")])

    def test_what_the_host_set_on_connecting_stays(self, sqlite_database: Database) -> None:
        engine = sqlite_database.engine()
        on_connect(engine, "PRAGMA recursive_triggers = ON", "CREATE TEMPORARY TABLE hosts (id integer)")
        with running(engine) as desk:
            desk.migrate("001", "PRAGMA recursive_triggers = OFF", "CREATE TEMPORARY TABLE mine (id integer)")
            desk.session.begin()
            assert desk.send("PRAGMA recursive_triggers") == 1
            assert desk.send("SELECT group_concat(name) FROM sqlite_temp_master") == "hosts"
            desk.session.rollback()


class TestSQLiteFiles:
    def test_a_busy_file_may_be_tried_again(self, sqlite_database: Database) -> None:
        with running(sqlite_database.engine(), lock_timeout=100) as desk:
            other = sa.create_engine(sqlite_database.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
            with other.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                with pytest.raises(Exception, match="locked") as caught:
                    desk.session.begin()
                assert desk.dialect.is_retryable(caught.value)
                connection.exec_driver_sql("ROLLBACK")
            desk.session.rollback()
            desk.migrate("001", "CREATE TABLE a (id integer)")

    def test_a_file_that_only_reads(self, sqlite_database: Database) -> None:
        sqlite_database.execute("CREATE TABLE a (id integer)")
        path = sa.make_url(sqlite_database.url).database
        engine = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true", poolclass=sa.NullPool)
        dialect = dialect_for(engine)
        with engine.connect() as connection:
            assert not Tracker(dialect, Settings()).read(connection).exists
        with pytest.raises(Exception, match="readonly") as caught, running(engine):
            pytest.fail("written")
        assert dialect.is_readonly(caught.value)
        assert sqlite_database.tables() == {"a"}

    @pytest.mark.parametrize("content", [b"this is no database, but long enough to be looked at " * 20])
    def test_a_file_that_is_no_database(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.sqlite").write_bytes(content)
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.sqlite'}", poolclass=sa.NullPool)
        with pytest.raises(Exception, match="not a database") as caught, running(engine):
            pytest.fail("opened")
        assert dialect_for(engine).is_unavailable(caught.value)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        engine = sa.create_engine(f"sqlite:///{tmp_path}/nowhere/x.sqlite", poolclass=sa.NullPool)
        with pytest.raises(DBAPIError, match="unable to open") as caught, running(engine):
            pytest.fail("opened")
        assert dialect_for(engine).is_unavailable(caught.value)
        complaint = dialect_for(engine).complaint(caught.value)
        assert complaint is not None
        assert complaint.code == "SQLITE_CANTOPEN"

    def test_nothing_stays_open(self, sqlite_database: Database) -> None:
        engine = sa.create_engine(sqlite_database.url)
        closed: list[int] = []
        sa.event.listen(engine, "close_detached", lambda connection: closed.append(1))
        with running(engine) as desk:
            desk.migrate("001", "CREATE TABLE a (id integer)")
        assert len(closed) == 2
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        engine.dispose()


class TestSQLiteInMemory:
    """The session is the host's only connection: it is given back as it was."""

    @pytest.fixture(params=["default", "static", "shared"])
    def engine(self, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
        url = "sqlite:///file::memory:?cache=shared&uri=true" if request.param == "shared" else "sqlite://"
        options: dict[str, Any] = {"poolclass": sa.StaticPool} if request.param == "static" else {}
        made = sa.create_engine(url, **options)
        on_connect(made, "PRAGMA foreign_keys = ON")
        with made.begin() as connection:
            for statement in FAMILY:
                connection.exec_driver_sql(statement)
        yield made
        made.dispose()

    def settings(self, engine: sa.Engine) -> tuple[Any, ...]:
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            pragmas = ("foreign_keys", "busy_timeout", "query_only", "recursive_triggers")
            found = tuple(driver.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas)
            return (*found, driver.isolation_level, driver.in_transaction)

    def test_what_was_there_stays_and_what_was_made_is_there(self, engine: sa.Engine) -> None:
        before = self.settings(engine)
        with running(engine) as desk:
            desk.migrate("001", "CREATE TABLE made (id integer)", "PRAGMA recursive_triggers = ON")
            desk.migrate("002", "CREATE TEMPORARY TABLE scratch (id integer)")
            desk.session.begin_autocommit()
            desk.send("PRAGMA query_only = ON")
            desk.session.end_autocommit()
        assert self.settings(engine) == before
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM c").scalar() == 2
            assert set(sa.inspect(connection).get_table_names()) == {"p", "c", "made", "migrations"}
            assert sa.inspect(connection).get_temp_table_names() == []

    def test_what_a_script_left_open_is_rolled_back(self, engine: sa.Engine) -> None:
        before = self.settings(engine)
        with running(engine) as desk:
            desk.session.begin_autocommit()
            desk.send("BEGIN")
            desk.send("CREATE TABLE made (id integer)")
        assert self.settings(engine) == before
        assert "made" not in sa.inspect(engine).get_table_names()

    def test_a_failed_migration_leaves_nothing(self, engine: sa.Engine) -> None:
        before = self.settings(engine)
        with pytest.raises(DBAPIError), running(engine) as desk:
            desk.migrate("001", "DELETE FROM p", "SELECT * FROM nowhere")
        assert self.settings(engine) == before
        with engine.begin() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM p").scalar() == 1
            connection.exec_driver_sql("INSERT INTO p VALUES (2, 'two')")  # the guard is gone

    def test_several_runs_after_each_other(self, engine: sa.Engine) -> None:
        for number in (1, 2, 3):
            with running(engine) as desk:
                desk.migrate(str(number), f"CREATE TABLE t{number} (id integer)")
                assert desk.versions() == [str(n) for n in range(1, number + 1)]


def on_connect(engine: sa.Engine, *statements: str) -> None:
    """What a host does to every new connection."""

    @sa.event.listens_for(engine, "connect")
    def _set_up(driver: Any, _record: Any) -> None:
        cursor = driver.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        driver.commit()


def end_session(database: Database, pid: int) -> None:
    """End a server's session, and wait until it is gone."""
    database.query(f"SELECT pg_terminate_backend({pid})")
    for _ in range(200):
        if not database.query(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"):
            return
        time.sleep(0.02)
    pytest.fail(f"session {pid} is still there")


def test_the_sessions_of_a_run_are_known_to_the_server(pg: Desk) -> None:
    assert isinstance(pg.session, PostgreSQLSession)
    assert pg.session.pid == pg.send("SELECT pg_backend_pid()")
