"""The one path on which scripts run, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cryoprotect.migrations_ext import MigrationFailed, events
from cryoprotect.migrations_ext.errors import (
    EnvironmentMismatchError,
    InvalidDirectoryError,
    IrreversibleMigrationError,
    MigrationError,
    PlanChangedError,
    RunCancelledError,
    ScriptError,
)
from cryoprotect.migrations_ext.events import Event
from cryoprotect.migrations_ext.model import Direction, Outcome
from cryoprotect.migrations_ext.overview import build_overview
from cryoprotect.migrations_ext.planning import Target
from cryoprotect.migrations_ext.runner import Runner
from cryoprotect.migrations_ext.settings import Settings

from .conftest import Database

Write = Callable[[str, str], Path]
MakeRunner = Callable[..., Runner]


@pytest.fixture
def make_runner(database: Database, scripts: Path) -> MakeRunner:
    def make(environment: str = "development", **config: Any) -> Runner:
        settings = Settings.from_mapping({f"DB_MIGRATE_{k.upper()}": v for k, v in config.items()})
        return Runner(database.engine(), settings, directory=scripts, environment=environment)

    return make


@pytest.fixture
def runner(make_runner: MakeRunner) -> Runner:
    return make_runner()


def apply(runner: Runner, **target: Any) -> list[tuple[str, str]]:
    return [(r.version, r.outcome.value) for r in runner.run(Direction.APPLY, Target(**target))]


def rollback(runner: Runner, **target: Any) -> list[tuple[str, str]]:
    return [(r.version, r.outcome.value) for r in runner.run(Direction.ROLLBACK, Target(**target))]


def three(write: Write) -> None:
    write("1_a.sql", "-- migrate:up\ncreate table a (id integer);\n-- migrate:down\ndrop table a;\n")
    write(
        "2_b.py",
        """
        def apply(conn, environment):
            conn.sql("create table b (id integer)").execute()

        def rollback(conn, environment):
            conn.sql("drop table b").execute()
        """,
    )
    write("10_c.sql", "-- migrate:up\ncreate table c (id integer);\n-- migrate:down\ndrop table c;\n")


def test_applies_in_order_of_number_and_then_has_nothing_to_do(
    database: Database, runner: Runner, write_script: Write
) -> None:
    three(write_script)
    assert apply(runner) == [("1", "applied"), ("2", "applied"), ("10", "applied")]
    assert database.own_tables() == {"a", "b", "c"}
    assert apply(runner) == []
    rows = database.query("select version, name, status, environment from migrations order by id")
    assert rows == [
        ("1", "a", "applied", "development"),
        ("2", "b", "applied", "development"),
        ("10", "c", "applied", "development"),
    ]


def test_rolls_back_from_the_highest_number_down(database: Database, runner: Runner, write_script: Write) -> None:
    three(write_script)
    apply(runner)
    assert rollback(runner, version="02") == [("10", "rolled_back")]
    assert rollback(runner, steps=1) == [("2", "rolled_back")]
    assert apply(runner, version="2") == [("2", "applied")]
    assert rollback(runner) == [("2", "rolled_back"), ("1", "rolled_back")]
    assert database.own_tables() == set()
    assert database.query("select count(*) from migrations") == [(0,)]


def test_nothing_to_do_takes_no_lock_and_writes_nothing(
    database: Database, runner: Runner, write_script: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert apply(runner) == []
    assert database.tables() == set()
    three(write_script)
    apply(runner)
    monkeypatch.setattr(type(runner.dialect), "lock", None)  # whoever asks for it now fails
    assert apply(runner) == []


def test_plan_and_status_never_write(database: Database, runner: Runner, write_script: Write) -> None:
    three(write_script)
    plan = runner.plan(Direction.APPLY, Target())
    assert [s.migration.version for s in plan.steps] == ["1", "2", "10"]
    runner.read()
    assert database.tables() == set()


def test_reading_makes_no_file(scripts: Path, tmp_path: Path, write_script: Write) -> None:
    three(write_script)
    file = tmp_path / "new.sqlite"
    runner = Runner(sa.create_engine(f"sqlite:///{file}"), Settings(), directory=scripts, environment="development")
    assert len(runner.plan(Direction.APPLY, Target()).steps) == 3
    assert build_overview(runner).counts["pending"] == 3
    assert not file.exists()
    assert len(apply(runner)) == 3


def test_failing_second_statement_leaves_nothing_and_says_everything(
    database: Database, runner: Runner, write_script: Write
) -> None:
    three(write_script)
    path = write_script(
        "11_bad.sql",
        """
        -- migrate:up
        create table d (id integer);

        insert into d
          values (1, 2);
        create table e (id integer);
        """,
    )
    with pytest.raises(MigrationFailed) as caught:
        apply(runner)
    failure = caught.value.failure
    # PostgreSQL points into the statement, SQLite knows where it begins.
    assert (failure.file, failure.version, failure.line) == (path, "11", 5 if database.is_postgresql else 4)
    assert (failure.statement_number, failure.statement_count) == (2, 3)
    assert [r.version for r in failure.completed] == ["1", "2", "10"]
    assert "Nothing is half done" in failure.database_state
    assert failure.next_steps
    assert database.own_tables() == {"a", "b", "c"}
    assert [v for (v,) in database.query("select version from migrations order by id")] == ["1", "2", "10"]
    path.write_text("-- migrate:up\ncreate table d (id integer);\n", encoding="utf-8")
    assert apply(runner) == [("11", "applied")]


def test_failing_python_script_names_its_own_line(runner: Runner, write_script: Write) -> None:
    path = write_script(
        "001_bad.py",
        """
        def apply(conn, environment):
            conn.sql("create table d (id integer)").execute()
            helper(conn)

        def helper(conn):
            conn.sql("select * from nowhere").execute()
        """,
    )
    with pytest.raises(MigrationFailed) as caught:
        apply(runner)
    failure = caught.value.failure
    assert (failure.file, failure.line, failure.statement_number) == (path, 6, 2)
    assert "nowhere" in failure.message
    assert failure.statement == "select * from nowhere"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('no such molecule')", "ValueError: no such molecule"),
        ("import sys; sys.exit(0)", "SystemExit(0)"),
        ("conn.connection.commit()", "commit"),
        ("conn.connection.rollback()", "roll"),
        ("conn.connection.close()", "clos"),
        ("conn.sql('commit').execute()", "COMMIT"),
    ],
)
def test_scripts_that_misbehave_fail_and_leave_nothing(
    database: Database, runner: Runner, write_script: Write, body: str, words: str
) -> None:
    write_script(
        "001_bad.py",
        f"def apply(conn, environment):\n    conn.sql('create table d (id integer)').execute()\n    {body}\n",
    )
    with pytest.raises(MigrationFailed) as caught:
        apply(runner)
    assert words.lower() in caught.value.failure.message.lower()
    assert caught.value.failure.line == 3
    assert database.own_tables() == set()
    assert database.query("select count(*) from migrations") == [(0,)]


@pytest.mark.parametrize(
    "body",
    [
        "try:\n        conn.sql('select * from nowhere').execute()\n    except Exception:\n        pass",
        "try:\n        conn.connection.commit()\n    except Exception:\n        pass",
    ],
)
def test_errors_that_a_script_swallows_are_fatal_all_the_same(
    database: Database, runner: Runner, write_script: Write, body: str
) -> None:
    write_script(
        "001_bad.py",
        f"def apply(conn, environment):\n    conn.sql('create table d (id integer)').execute()\n    {body}\n",
    )
    with pytest.raises(MigrationFailed):
        apply(runner)
    assert database.own_tables() == set()


def test_every_script_is_checked_before_the_first_one_runs(
    database: Database, runner: Runner, write_script: Write
) -> None:
    three(write_script)
    path = write_script("011_typo.py", "def apply(conn, environment):\n    return (\n")
    with pytest.raises((ScriptError, InvalidDirectoryError)) as caught:
        apply(runner)
    assert path.name in caught.value.message
    assert database.own_tables() == set()


def test_transaction_control_in_a_sql_file_is_refused_before_anything_runs(
    database: Database, runner: Runner, write_script: Write
) -> None:
    three(write_script)
    write_script(
        "011_commit.sql", "-- migrate:up\ncreate table d (id integer);\ncommit;\ncreate table e (id integer);\n"
    )
    with pytest.raises(MigrationError) as caught:
        apply(runner)
    assert caught.value.line == 3
    assert database.own_tables() == set()


def test_a_wrapper_of_begin_and_commit_is_set_aside(database: Database, runner: Runner, write_script: Write) -> None:
    write_script("001_w.sql", "begin;\ncreate table w (id integer);\ncommit;\n")
    assert apply(runner) == [("001", "applied")]
    assert database.own_tables() == {"w"}


def test_missing_rollback_part_runs_nothing(database: Database, runner: Runner, write_script: Write) -> None:
    write_script("001_a.sql", "create table a (id integer);\n")
    write_script("002_b.sql", "-- migrate:up\ncreate table b (id integer);\n-- migrate:down\ndrop table b;\n")
    apply(runner)
    with pytest.raises(IrreversibleMigrationError, match="001_a") as caught:
        rollback(runner)
    assert "--target 001" in (caught.value.hint or "")
    assert database.own_tables() == {"a", "b"}
    assert rollback(runner, version="1") == [("002", "rolled_back")]


def test_the_database_remembers_its_environment(make_runner: MakeRunner, write_script: Write) -> None:
    three(write_script)
    apply(make_runner("staging"), steps=1)
    with pytest.raises(EnvironmentMismatchError, match="staging") as caught:
        apply(make_runner("production"))
    assert "--env staging" in (caught.value.hint or "")
    with pytest.raises(EnvironmentMismatchError):
        make_runner("production").initialize(remember=True)
    assert make_runner("production").initialize(remember=True, reason="renamed")
    assert apply(make_runner("production")) == [("2", "applied"), ("10", "applied")]


def test_scripts_of_other_environments_are_skipped(
    database: Database, make_runner: MakeRunner, write_script: Write
) -> None:
    three(write_script)
    write_script(
        "3_samples.sql", "-- environments: development, testing\n-- migrate:up\ncreate table s (id integer);\n"
    )
    assert apply(make_runner("production")) == [("1", "applied"), ("2", "applied"), ("10", "applied")]
    assert apply(make_runner("production")) == []
    assert "s" not in database.own_tables()


def test_an_agreed_plan_that_changed_is_not_run(database: Database, runner: Runner, write_script: Write) -> None:
    three(write_script)
    plan = runner.plan(Direction.APPLY, Target())
    write_script("11_new.sql", "create table n (id integer);\n")
    with pytest.raises(PlanChangedError):
        runner.run(Direction.APPLY, Target(), expected=plan)
    assert database.own_tables() == set()


def test_a_script_that_declares_no_transaction_is_running_while_it_runs(
    database: Database, runner: Runner, write_script: Write
) -> None:
    write_script(
        "001_free.py",
        """
        transactional = False

        def apply(conn, environment):
            conn.sql("create table f (id integer)").execute()
            rows = conn.sql("select status from migrations").execute().data
            assert rows == [{"status": "running"}], rows

        def rollback(conn, environment):
            conn.sql("drop table f").execute()
        """,
    )
    assert apply(runner) == [("001", "applied")]
    assert database.query("select status from migrations") == [("applied",)]
    assert rollback(runner) == [("001", "rolled_back")]
    assert database.query("select status from migrations") == []


def test_an_interrupted_migration_stops_apply(database: Database, runner: Runner, write_script: Write) -> None:
    write_script(
        "001_free.sql",
        "-- transactional: false\n-- migrate:up\ncreate table f (id integer);\nselect * from nowhere;\n",
    )
    with pytest.raises(MigrationFailed) as caught:
        apply(runner)
    assert "interrupted" in caught.value.failure.database_state
    assert database.own_tables() == {"f"}
    with pytest.raises(MigrationError, match="never finished"):
        apply(runner)


def test_events_reach_observers_and_receivers_and_a_broken_one_breaks_nothing(
    runner: Runner, write_script: Write, caplog: pytest.LogCaptureFixture
) -> None:
    three(write_script)
    seen: list[Event] = []

    def broken(_sender: object, event: Event) -> None:
        raise RuntimeError("no")

    heard: list[Event] = []

    def receiver(_sender: object, event: Event) -> None:
        heard.append(event)

    with events.step_finished.connected_to(broken), events.step_finished.connected_to(receiver):
        runner.run(Direction.APPLY, Target(), observers=[seen.append])
    kinds = [type(e).__name__ for e in seen]
    assert kinds[0] == "RunStarted"
    assert kinds[-1] == "RunFinished"
    assert kinds.count("StepStarted") == kinds.count("StepFinished") == kinds.count("StatementDone") == 3
    assert len(heard) == 3
    assert "the run goes on" in caplog.text


def test_the_journal_tells_what_happened(database: Database, runner: Runner, write_script: Write) -> None:
    three(write_script)
    write_script("11_bad.sql", "create table a (id integer);\n")
    with pytest.raises(MigrationFailed):
        apply(runner)
    rows = database.query("select event, version, outcome from migrations_journal order by id")
    assert rows == [
        ("environment_set", None, None),
        ("run_started", None, None),
        ("step_finished", "1", "applied"),
        ("step_finished", "2", "applied"),
        ("step_finished", "10", "applied"),
        ("step_failed", "11", "failed"),
        ("run_finished", None, "failed"),
    ]
    texts = database.query("select count(*) from migrations_texts where text like '%create table b%'")
    assert texts == [(1,)]


def test_cancel_from_another_thread_stops_and_rolls_back(
    database: Database, runner: Runner, write_script: Write
) -> None:
    slow = (
        "select pg_sleep(30)"
        if database.is_postgresql
        else "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000000000) select max(i) from n"
    )
    write_script("001_slow.sql", f"create table s (id integer);\n{slow};\n")
    started = threading.Event()

    def watch(event: Event) -> None:
        if isinstance(event, events.StatementDone):
            started.set()

    caught: list[BaseException] = []

    def work() -> None:
        try:
            runner.run(Direction.APPLY, Target(), observers=[watch])
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(10)
    for _ in range(50):  # the statement may not have begun yet
        runner.cancel()
        thread.join(0.2)
        if not thread.is_alive():
            break
    assert isinstance(caught[0], RunCancelledError)
    assert "rolled back completely" in caught[0].message
    assert database.own_tables() == set()


def test_a_lock_timeout_is_tried_again(postgres_database: Database, scripts: Path, write_script: Write) -> None:
    postgres_database.execute("create table busy (id integer)")
    write_script("001_alter.sql", "alter table busy add column more integer;\n")
    settings = Settings.from_mapping({"DB_MIGRATE_LOCK_TIMEOUT": 200})
    runner = Runner(postgres_database.engine(), settings, directory=scripts, environment="development")
    reader = postgres_database.engine().connect()
    reader.execute(sa.text("select * from busy"))
    said: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, events.Waiting):
            said.append(event.reason)
            reader.close()

    results = runner.run(Direction.APPLY, Target(), observers=[watch])
    assert [r.outcome for r in results] == [Outcome.APPLIED]
    assert said
    assert "lock timeout" in said[0]


def test_in_memory_database_of_the_app_is_used_and_kept(scripts: Path, write_script: Write) -> None:
    three(write_script)
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    runner = Runner(engine, Settings(), directory=scripts, environment="testing")
    assert len(apply(runner)) == 3
    assert {"a", "b", "c"} <= set(sa.inspect(engine).get_table_names())
    assert len(rollback(runner)) == 3


def test_nothing_of_a_script_returns_to_the_hosts_pool(
    postgres_database: Database, scripts: Path, write_script: Write
) -> None:
    write_script("001_set.sql", "set search_path to pg_catalog;\nset statement_timeout = 12345;\n")
    write_script("002_see.sql", "create table public.seen as select current_setting('search_path') as path;\n")
    engine = sa.create_engine(postgres_database.url, pool_size=1, max_overflow=5)
    runner = Runner(engine, Settings(), directory=scripts, environment="development")
    apply(runner)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("show statement_timeout").scalar() == "0"
    assert "public" in str(postgres_database.query("select path from seen")[0][0])
    engine.dispose()
