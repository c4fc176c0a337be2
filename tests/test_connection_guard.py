"""What a script must not do to its connection is refused, also when it hides it; savepoints and the ORM work."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from cryoprotect.migrations_ext.connection.ledger import Ledger
from cryoprotect.migrations_ext.connection.progress import Progress
from cryoprotect.migrations_ext.errors import ScriptGuardError

Open = Callable[..., Any]


@pytest.fixture
def migration(database: Any, open_migration: Open) -> Any:
    migration = open_migration(database)
    migration.conn.sql("CREATE TABLE a (id integer PRIMARY KEY)").execute()
    return migration


@pytest.fixture
def conn(migration: Any) -> Any:
    return migration.conn


class Base(DeclarativeBase):
    pass


class A(Base):
    __tablename__ = "a"
    id: Mapped[int] = mapped_column(primary_key=True)


# --- commit, rollback, close


def _with_begin(conn: Any) -> None:
    with conn.connection.begin():
        pass


def _with_connection(conn: Any) -> None:
    with conn.connection:
        pass


def _session_that_commits(conn: Any) -> None:
    with Session(conn.connection, join_transaction_mode="control_fully") as session:
        session.add(A(id=1))
        session.commit()


def _session_that_rolls_back(conn: Any) -> None:
    session = Session(conn.connection)
    session.add(A(id=1))
    session.flush()
    session.rollback()


FORBIDDEN = {
    "commit": lambda conn: conn.connection.commit(),
    "rollback": lambda conn: conn.connection.rollback(),
    "begin": lambda conn: conn.connection.begin(),
    "with begin": _with_begin,
    "transaction.commit": lambda conn: conn.connection.get_transaction().commit(),
    "transaction.rollback": lambda conn: conn.connection.get_transaction().rollback(),
    "transaction.close": lambda conn: conn.connection.get_transaction().close(),
    "close": lambda conn: conn.connection.close(),
    "with connection": _with_connection,
    "detach": lambda conn: conn.connection.detach(),
    "invalidate": lambda conn: conn.connection.invalidate(),
    "pooled commit": lambda conn: conn.connection.connection.commit(),
    "pooled rollback": lambda conn: conn.connection.connection.rollback(),
    "pooled close": lambda conn: conn.connection.connection.close(),
    "pooled detach": lambda conn: conn.connection.connection.detach(),
    "pooled invalidate": lambda conn: conn.connection.connection.invalidate(),
    "session commits": _session_that_commits,
    "session rolls back": _session_that_rolls_back,
    "sql": lambda conn: conn.sql("COMMIT").execute(),
    "sql, several": lambda conn: conn.sql("SELECT 1; ROLLBACK; SELECT 2").execute(),
    "sql with parameters": lambda conn: conn.sql("COMMIT -- :a", {"a": 1}).execute(),
    "text": lambda conn: conn.execute(sa.text("COMMIT")),
    "text with comment": lambda conn: conn.execute(sa.text("/* all done */ end")),
    "driver sql": lambda conn: conn.connection.exec_driver_sql("ROLLBACK"),
    "op": lambda conn: conn.op.execute("COMMIT"),
    "autocommit block": lambda conn: conn.op.get_context().autocommit_block().__enter__(),
}


@pytest.mark.parametrize("way", FORBIDDEN)
def test_ending_the_transaction_is_refused_even_if_hidden(database: Any, migration: Any, way: str) -> None:
    conn = migration.conn
    conn.sql("INSERT INTO a VALUES (7)").execute()
    with pytest.raises(ScriptGuardError) as error:
        FORBIDDEN[way](conn)
    assert error.value.hint
    assert conn.violated is error.value
    with pytest.raises(ScriptGuardError) as again:
        conn.check()
    assert again.value is error.value
    assert database.tables() == set()  # nothing was committed
    conn.release()
    migration.connection.exec_driver_sql("COMMIT")
    assert (7,) in database.query("SELECT id FROM a")  # nothing was rolled back


def test_several_statements_in_one_driver_text(postgres_database: Any, open_migration: Open) -> None:
    conn = open_migration(postgres_database).conn
    with pytest.raises(ScriptGuardError):
        conn.connection.exec_driver_sql("SELECT 1; COMMIT; SELECT 'x'")
    conn.connection.exec_driver_sql("SELECT 'COMMIT', CASE WHEN true THEN 1 END AS begin")


def test_an_isolation_level_cannot_be_changed(conn: Any) -> None:
    with pytest.raises(sa.exc.InvalidRequestError):
        conn.connection.execution_options(isolation_level="SERIALIZABLE")


def test_after_release_the_connection_is_the_engines_again(database: Any, migration: Any) -> None:
    conn, connection = migration.conn, migration.connection
    with contextlib.suppress(ScriptGuardError):
        conn.connection.get_transaction().commit()
    conn.connection.info["seen"] = True
    with pytest.raises(sa.exc.PendingRollbackError):
        conn.connection.begin_nested()
    migration.commit()
    assert not [name for name in vars(connection) if name in ("commit", "rollback", "close", "begin")]
    connection.exec_driver_sql("INSERT INTO a VALUES (1)")
    connection.commit()
    connection.close()
    assert database.query("SELECT id FROM a") == [(1,)]


def test_a_savepoint_that_was_left_open_does_not_hinder_the_next_script(database: Any, migration: Any) -> None:
    migration.conn.connection.begin_nested()
    migration.conn.sql("INSERT INTO a VALUES (1)").execute()
    migration.conn.check()
    migration.commit()
    assert not migration.connection.in_nested_transaction()
    assert database.query("SELECT id FROM a") == [(1,)]


def test_the_guard_is_taken_off_its_connection_only(database: Any, open_migration: Open) -> None:
    first, second = open_migration(database), open_migration(database, transactional=False)
    engine = first.connection.engine
    assert first.conn.connection is first.connection
    with engine.connect() as another:
        another.rollback()
    first.conn.release()
    first.conn.release()
    second.conn.connection.commit()


# --- non-transactional scripts


@pytest.mark.parametrize("way", ["begin", "with begin", "rollback", "close", "detach", "invalidate", "pooled close"])
def test_without_a_transaction_the_rest_is_refused(database: Any, open_migration: Open, way: str) -> None:
    conn = open_migration(database, transactional=False).conn
    with pytest.raises(ScriptGuardError) as error:
        FORBIDDEN[way](conn)
    assert error.value.hint
    assert conn.violated is error.value


def test_without_a_transaction_commit_changes_nothing(database: Any, open_migration: Open) -> None:
    conn = open_migration(database, transactional=False).conn
    conn.sql("CREATE TABLE a (id integer PRIMARY KEY)").execute()
    conn.connection.commit()
    with Session(conn.connection) as session:
        session.add(A(id=1))
        session.commit()
    with conn.op.get_context().autocommit_block():
        conn.op.create_index("a_id", "a", ["id"])
    conn.check()
    assert database.query("SELECT id FROM a") == [(1,)]


def test_without_a_transaction_an_error_may_be_handled(database: Any, open_migration: Open) -> None:
    conn = open_migration(database, transactional=False).conn
    with contextlib.suppress(sa.exc.DBAPIError):
        conn.sql("DROP TABLE nowhere").execute()
    conn.sql("CREATE TABLE a (id integer)").execute()
    assert conn.failed is None
    conn.check()
    assert database.tables() == {"a"}


# --- SQL errors that are hidden


def _fail_sql(conn: Any) -> None:
    conn.sql("SELECT 1;\nSELECT * FROM nowhere").execute()


FAILURES = {
    "sql": _fail_sql,
    "table": lambda conn: conn.table("nowhere").select("*").execute(),
    "execute": lambda conn: conn.execute(sa.text("SELECT * FROM nowhere")),
    "op": lambda conn: conn.op.execute("SELECT * FROM nowhere"),
    "connection": lambda conn: conn.connection.exec_driver_sql("SELECT * FROM nowhere"),
    "parameters": lambda conn: conn.sql("SELECT * FROM nowhere WHERE a = :a", {"a": 1}).execute(),
}


@pytest.mark.parametrize("way", FAILURES)
def test_a_hidden_sql_error_fails_the_migration(conn: Any, way: str) -> None:
    with contextlib.suppress(sa.exc.DBAPIError):
        FAILURES[way](conn)
    number, text = conn.progress.number, conn.progress.text
    with contextlib.suppress(sa.exc.DBAPIError):
        conn.sql("SELECT 2").execute()  # SQLite goes on, PostgreSQL does not
    assert isinstance(conn.failed, sa.exc.DBAPIError)
    with pytest.raises(ScriptGuardError, match=r"went on after an SQL error: .*nowhere") as error:
        conn.check()
    assert "begin_nested" in error.value.hint
    assert error.value.__cause__ is conn.failed
    assert (conn.progress.number, conn.progress.text) == (number, text)


def test_errors_that_never_reached_the_database_are_no_sql_errors(conn: Any) -> None:
    with contextlib.suppress(sa.exc.StatementError):
        conn.execute(sa.text("SELECT :missing"))
    conn.check()


def test_a_hidden_deadlock_is_left_to_be_tried_again(postgres_database: Any, open_migration: Open) -> None:
    postgres_database.execute("CREATE TABLE a (id integer)")
    holder, migration = open_migration(postgres_database), open_migration(postgres_database)
    holder.conn.sql("LOCK TABLE a").execute()
    with contextlib.suppress(sa.exc.DBAPIError):
        migration.conn.sql("SET LOCAL lock_timeout = 50; LOCK TABLE a").execute()
    with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
        migration.conn.check()


def test_rolling_back_after_an_error_tells_both(conn: Any) -> None:
    with pytest.raises(sa.exc.DBAPIError) as first:
        conn.connection.exec_driver_sql("SELECT * FROM nowhere")
    with pytest.raises(ScriptGuardError) as error:
        conn.connection.rollback()
    assert error.value.__cause__ is first.value
    assert "begin_nested" in error.value.hint


# --- savepoints


def test_what_is_rolled_back_to_a_savepoint_is_forgiven(database: Any, migration: Any) -> None:
    conn = migration.conn
    with pytest.raises(sa.exc.DBAPIError), conn.connection.begin_nested():
        conn.sql("INSERT INTO a VALUES (1); SELECT * FROM nowhere").execute()
    with conn.connection.begin_nested():
        conn.sql("INSERT INTO a VALUES (2)").execute()
    conn.sql("SAVEPOINT mine").execute()
    with contextlib.suppress(sa.exc.DBAPIError):
        conn.table("nowhere").select("*").execute()
    conn.sql("ROLLBACK TO SAVEPOINT mine; INSERT INTO a VALUES (3); RELEASE mine").execute()
    with pytest.raises(sa.exc.DBAPIError), conn.connection.begin_nested(), conn.connection.begin_nested():
        conn.execute(sa.text("SELECT * FROM nowhere"))
    conn.execute(sa.text("SAVEPOINT other"))
    with contextlib.suppress(sa.exc.DBAPIError):
        conn.op.execute("SELECT * FROM nowhere")
    conn.connection.exec_driver_sql("ROLLBACK TO other")
    assert conn.failed is None
    conn.check()
    migration.commit()
    assert database.query("SELECT id FROM a ORDER BY id") == [(2,), (3,)]


def test_an_error_inside_a_savepoint_that_is_not_rolled_back_stands(conn: Any) -> None:
    savepoint = conn.connection.begin_nested()
    with contextlib.suppress(sa.exc.DBAPIError):
        conn.sql("SELECT * FROM nowhere").execute()
    with contextlib.suppress(sa.exc.DBAPIError):
        savepoint.commit()  # SQLite releases it, PostgreSQL does not
    assert conn.failed is not None


def _run(steps: str) -> bool:
    ledger = Ledger()
    for step in steps.split("; "):
        if step == "error":
            ledger.failed(ValueError(), Progress())
        else:
            ledger.executed(step)
    return ledger.standing is None


@pytest.mark.parametrize(
    ("steps", "fine"),
    [
        ("SAVEPOINT a; RELEASE a", True),
        ("error", False),
        ("error; SAVEPOINT a; ROLLBACK TO a", False),
        ("SAVEPOINT a; error; ROLLBACK TO a", True),
        ("SAVEPOINT a; error; ROLLBACK TO a; error", False),
        ("SAVEPOINT a; error; rollback transaction to savepoint A", True),
        ('SAVEPOINT "a b"; error; ROLLBACK TO "a b"', True),
        ('SAVEPOINT "A"; SAVEPOINT b; error; ROLLBACK WORK TO "A"', True),
        ("SAVEPOINT a; error; RELEASE SAVEPOINT a", False),
        ("SAVEPOINT a; error; RELEASE a; SAVEPOINT b; ROLLBACK TO b", False),
        ("SAVEPOINT a; SAVEPOINT b; error; RELEASE b; ROLLBACK TO a", True),
        ("SAVEPOINT a; SAVEPOINT b; error; RELEASE a", False),
        ("SAVEPOINT a; error; SAVEPOINT a; ROLLBACK TO a", False),
        ("SAVEPOINT a; error; SAVEPOINT a; ROLLBACK TO a; RELEASE a; ROLLBACK TO a", True),
        ("SAVEPOINT a; error; ROLLBACK TO other", False),
        ("SAVEPOINT a; error; SELECT 1", False),
    ],
)
def test_which_errors_stand(steps: str, fine: bool) -> None:
    assert _run(steps) is fine


# --- the ORM


def test_an_orm_session_joins_the_migrations_transaction(database: Any, migration: Any) -> None:
    conn = migration.conn
    with Session(conn.connection) as session:
        session.add(A(id=1))
        session.flush()
        session.commit()
    with Session(bind=conn.connection) as session, session.begin():
        session.add(A(id=2))
    with Session(conn.connection, join_transaction_mode="create_savepoint") as session:
        session.add(A(id=3))
        session.commit()
        session.add(A(id=4))
        session.flush()
        session.rollback()
    with Session(conn.connection) as session:
        session.add(A(id=5))
        with contextlib.suppress(sa.exc.IntegrityError), session.begin_nested():
            session.add(A(id=1))
            session.flush()
        session.commit()
    assert database.tables() == set()
    conn.check()
    migration.commit()
    assert database.query("SELECT id FROM a ORDER BY id") == [(1,), (2,), (3,), (5,)]


def test_a_failing_session_tells_its_own_error(conn: Any) -> None:
    conn.sql("INSERT INTO a VALUES (1)").execute()
    with pytest.raises(sa.exc.IntegrityError), Session(conn.connection) as session, session.begin():
        session.add(A(id=1))
    assert conn.violated is None
    assert isinstance(conn.failed, sa.exc.IntegrityError)


def test_metadata_and_inspection_work_on_the_connection(conn: Any) -> None:
    table = sa.Table("b", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    table.metadata.create_all(conn.connection)
    assert set(sa.inspect(conn.connection).get_table_names()) == {"a", "b"}
    conn.check()


# --- a connection that is lost


@pytest.fixture
def lost(postgres_database: Any, open_migration: Open) -> Any:
    migration = open_migration(postgres_database)
    pid = migration.conn.sql("SELECT pg_backend_pid() AS pid").execute().data[0]["pid"]
    assert migration.conn.connection.in_transaction()
    postgres_database.execute(f"SELECT pg_terminate_backend({pid})")
    return migration


def test_a_lost_connection_is_told_and_never_replaced(lost: Any) -> None:
    conn = lost.conn
    with pytest.raises(sa.exc.OperationalError) as error:
        conn.connection.exec_driver_sql("SELECT 1")
    assert error.value.connection_invalidated
    assert conn.failed is error.value
    assert conn.violated is None
    with pytest.raises(sa.exc.PendingRollbackError):  # no new connection, outside the transaction, behind our back
        conn.sql("SELECT 1").execute()
    conn.release()
    assert lost.connection.invalidated


def test_many_statements_on_a_lost_connection(lost: Any) -> None:
    with pytest.raises(sa.exc.OperationalError) as error:
        lost.conn.run_script("SELECT 1;" * 600)
    assert lost.conn.failed is error.value


def test_another_thread_can_use_the_engine_meanwhile(database: Any, open_migration: Open) -> None:
    migration = open_migration(database)
    engine = migration.connection.engine
    assert migration.conn.connection.in_transaction()
    errors: list[str] = []

    def elsewhere() -> None:
        with engine.connect() as connection:
            try:
                connection.exec_driver_sql("SELECT * FROM nowhere")
            except sa.exc.DBAPIError as error:
                errors.append(str(error))
            connection.rollback()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(errors) == 1
    migration.conn.check()
