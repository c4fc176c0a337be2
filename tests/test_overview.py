"""Every state of a database as one sentence and the command that leads on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cryoprotect.migrations_ext.api import Manager
from cryoprotect.migrations_ext.dialects import dialect_for
from cryoprotect.migrations_ext.errors import (
    DatabaseUnavailableError,
    ForeignTableError,
    MigrationFailed,
    RunCancelledError,
)
from cryoprotect.migrations_ext.model import Direction, Overview, State, Verdict
from cryoprotect.migrations_ext.overview import shown_url
from cryoprotect.migrations_ext.runner import Runner
from cryoprotect.migrations_ext.settings import Settings

from .conftest import ROOT, Database

Write = Callable[[str, str], Path]
MakeManager = Callable[..., Manager]

only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@pytest.fixture
def make_manager(database: Database, scripts: Path) -> MakeManager:
    """A manager over `database` and `scripts`: `make_manager("production", engine=…, table="ours")`."""

    def make(environment: str = "development", *, engine: sa.Engine | None = None, **config: Any) -> Manager:
        settings = Settings.from_mapping({f"DB_MIGRATE_{key.upper()}": value for key, value in config.items()})
        return Manager(
            Runner(engine or database.engine(), settings, directory=scripts, environment=environment, actor="alice")
        )

    return make


@pytest.fixture
def manager(make_manager: MakeManager) -> Manager:
    return make_manager()


def told(overview: Overview) -> tuple[Verdict, str, str | None]:
    return overview.verdict, overview.sentence, overview.next_command


@pytest.fixture
def two(write_script: Write) -> None:
    write_script("001_a.sql", "-- migrate:up\ncreate table a (id integer);\n-- migrate:down\ndrop table a;")
    write_script("002_b.sql", "-- migrate:up\ncreate table b (id integer);\n-- migrate:down\ndrop table b;")


class TestVerdict:
    def test_no_migrations(self, manager: Manager) -> None:
        assert told(manager.overview()) == (
            Verdict.NO_MIGRATIONS,
            "There are no migrations in migration_scripts/ yet.",
            "flask db-migrate new NAME",
        )

    @pytest.mark.usefixtures("two")
    def test_not_set_up(self, manager: Manager, database: Database) -> None:
        assert told(manager.overview()) == (
            Verdict.NOT_SET_UP,
            "Nothing was applied here yet; 2 migrations pending.",
            "flask db-migrate apply",
        )
        assert database.tables() == set()

    @pytest.mark.usefixtures("two")
    def test_pending(self, manager: Manager) -> None:
        manager.apply(target="1")
        assert told(manager.overview()) == (
            Verdict.PENDING,
            "1 migration pending, 1 applied.",
            "flask db-migrate apply",
        )

    @pytest.mark.usefixtures("two")
    def test_up_to_date(self, manager: Manager) -> None:
        manager.apply()
        assert told(manager.overview()) == (
            Verdict.UP_TO_DATE,
            "The database is up to date: 2 migrations applied.",
            None,
        )

    def test_what_is_not_for_this_environment_is_not_pending(self, manager: Manager, write_script: Write) -> None:
        write_script("001_a.sql", "-- environments: production\ncreate table a (id integer);")
        overview = manager.overview()
        assert told(overview) == (Verdict.UP_TO_DATE, "The database is up to date: 0 migrations applied.", None)
        assert [row.state for row in overview.rows] == [State.SKIPPED]

    @pytest.mark.usefixtures("two")
    def test_failed_until_it_is_mended(self, manager: Manager, write_script: Write) -> None:
        bad = write_script("003_c.sql", "create table c (id integer);\ncreate table <d> (id integer);")
        with pytest.raises(MigrationFailed) as caught:
            manager.apply()
        overview = manager.overview()
        assert told(overview) == (
            Verdict.FAILED,
            f"The last run failed at 003_c: {caught.value.failure.message}",
            "flask db-migrate apply",
        )
        assert overview.rows[-1].last_error == caught.value.failure.message
        bad.write_text("create table c (id integer);")
        manager.apply()
        assert manager.overview().verdict is Verdict.UP_TO_DATE
        assert manager.overview().rows[-1].last_error is None

    @pytest.mark.usefixtures("two")
    def test_a_failed_file_that_was_taken_away_is_no_failure_any_more(
        self, manager: Manager, write_script: Write
    ) -> None:
        bad = write_script("003_c.sql", "create table <d> (id integer);")
        with pytest.raises(MigrationFailed):
            manager.apply()
        bad.unlink()
        assert manager.overview().verdict is Verdict.UP_TO_DATE

    @pytest.mark.usefixtures("two")
    def test_a_failed_rollback_leaves_the_database_up_to_date(self, manager: Manager, write_script: Write) -> None:
        write_script("003_c.sql", "-- migrate:up\ncreate table c (id integer);\n-- migrate:down\ndrop table nowhere;")
        manager.apply()
        with pytest.raises(MigrationFailed):
            manager.rollback(steps=1)
        overview = manager.overview()
        assert overview.verdict is Verdict.UP_TO_DATE
        assert overview.last_run is not None
        assert (overview.last_run.direction, overview.last_run.outcome) == (Direction.ROLLBACK, "failed")

    @pytest.mark.usefixtures("two")
    def test_running(self, manager: Manager) -> None:
        with lock_held(manager) as pid:
            verdict, sentence, command = told(manager.overview())
        assert verdict is Verdict.RUNNING
        assert sentence.startswith(f"A migration run is under way: process {pid} on ")
        assert "(bob)" in sentence
        assert command == "flask db-migrate status"
        assert manager.overview().verdict is Verdict.NOT_SET_UP

    def test_unreachable(self, make_manager: MakeManager, tmp_path: Path, database: Database) -> None:
        url = (
            "postgresql+psycopg2://bob:s3cr3t@127.0.0.1:1/shop"
            if database.is_postgresql
            else f"sqlite:///{tmp_path}/nowhere/shop.sqlite"
        )
        manager = make_manager(engine=sa.create_engine(url, poolclass=sa.NullPool))
        with pytest.raises(DatabaseUnavailableError):
            manager.overview()
        overview = manager.overview(tolerant=True)
        verdict, sentence, command = told(overview)
        assert verdict is Verdict.UNREACHABLE
        assert sentence.startswith("The database 'shop")
        assert "cannot be reached: " in sentence
        assert command == "flask db-migrate status"
        assert overview.warnings == ("Check that it is running and that the app's database URL is right.",)
        assert "s3cr3t" not in repr(overview)

    def test_somebody_else_s_table_is_an_error_for_the_tolerant_as_well(
        self, manager: Manager, database: Database
    ) -> None:
        database.execute("create table migrations (version integer, dirty boolean)")
        with pytest.raises(ForeignTableError):
            manager.overview(tolerant=True)


@pytest.mark.usefixtures("two")
class TestDisagreement:
    """Where an apply would be refused the verdict says so, and leads to every cure; where it would warn, it warns."""

    VALIDATE = "flask db-migrate validate"

    @pytest.fixture
    def production(self, make_manager: MakeManager) -> Manager:
        manager = make_manager("production")
        manager.apply()
        return manager

    def test_edited(self, production: Manager, write_script: Write) -> None:
        write_script("001_a.sql", "create table a (id integer, name text);")
        overview = production.overview()
        assert told(overview) == (
            Verdict.DISAGREE,
            "001_a was edited after being applied; the change has not reached this database.",
            self.VALIDATE,
        )
        assert [row.edited for row in overview.rows] == [True, False]

    def test_gone(self, production: Manager, scripts: Path) -> None:
        (scripts / "002_b.sql").unlink()
        overview = production.overview()
        assert told(overview) == (
            Verdict.DISAGREE,
            "002_b is applied here, but the file is gone.",
            self.VALIDATE,
        )
        assert [row.missing for row in overview.rows] == [False, True]

    def test_out_of_order(self, production: Manager, write_script: Write) -> None:
        write_script("0_z.sql", "select 1;")
        overview = production.overview()
        assert told(overview) == (
            Verdict.DISAGREE,
            "0_z is older than a migration that is already applied.",
            self.VALIDATE,
        )
        assert overview.rows[0].out_of_order

    def test_a_clash_of_numbers(self, production: Manager, write_script: Write) -> None:
        write_script("003_c.sql", "select 1;")
        write_script("3_d.sql", "select 1;")
        overview = production.overview()
        assert told(overview) == (
            Verdict.DISAGREE,
            "Number 3 is taken more than once: 003_c.sql and 3_d.sql.",
            self.VALIDATE,
        )
        assert overview.problems[0].hint

    def test_a_pending_file_that_cannot_be_read(self, production: Manager, write_script: Write) -> None:
        write_script("003_c.py", "def apply(conn, environment)\n")
        verdict, sentence, command = told(production.overview())
        assert (verdict, command) == (Verdict.DISAGREE, self.VALIDATE)
        assert sentence.startswith("003_c.py, line 1: ")

    def test_an_applied_file_that_cannot_be_read_was_edited(self, production: Manager, scripts: Path) -> None:
        (scripts / "002_b.sql").write_bytes(b"\xff\xfe\x00")
        overview = production.overview()
        assert overview.sentence.startswith("002_b was edited after being applied")
        assert [problem.blocking for problem in overview.problems] == [False]

    def test_in_development_it_only_warns(self, make_manager: MakeManager, write_script: Write, scripts: Path) -> None:
        manager = make_manager()
        manager.apply()
        write_script("001_a.sql", "create table a (id integer, name text);")
        (scripts / "002_b.sql").unlink()
        overview = manager.overview()
        assert overview.verdict is Verdict.UP_TO_DATE
        assert overview.warnings == (
            "001_a was edited after being applied; the change has not reached this database.",
            "002_b is applied here, but the file is gone.",
        )
        write_script("0_z.sql", "select 1;")
        overview = manager.overview()
        assert told(overview) == (Verdict.PENDING, "1 migration pending, 2 applied.", "flask db-migrate apply")
        assert overview.warnings[-1] == "0_z is older than a migration that is already applied."

    def test_a_missing_folder_is_a_problem_and_not_an_error(self, production: Manager, scripts: Path) -> None:
        scripts.rename(scripts.with_name("elsewhere"))
        overview = production.overview()
        verdict, sentence, command = told(overview)
        assert (verdict, command) == (Verdict.DISAGREE, self.VALIDATE)
        assert "is not there" in sentence
        (problem,) = overview.problems
        assert (problem.paths, problem.blocking) == ((scripts,), True)
        assert "flask db-migrate init" in problem.hint
        assert [row.state for row in overview.rows] == [State.APPLIED] * 2


@pytest.mark.usefixtures("two")
class TestFacts:
    def test_counts(self, make_manager: MakeManager, write_script: Write, scripts: Path) -> None:
        manager = make_manager()
        write_script("004_d.sql", "create table d (id integer);")
        manager.apply()
        write_script("001_a.sql", "create table a (id integer, name text);")
        (scripts / "002_b.sql").unlink()
        write_script("003_c.sql", "create table c (id integer);")
        write_script("005_e.sql", "-- environments: staging\ncreate table e (id integer);")
        assert manager.overview().counts == {
            "applied": 3,
            "pending": 1,
            "skipped": 1,
            "interrupted": 0,
            "edited": 1,
            "missing": 1,
            "out_of_order": 1,
        }

    def test_rows_come_in_order_of_number(self, manager: Manager, write_script: Write) -> None:
        for name in ("10_k.sql", "9_j.sql", "20260101_dated.sql"):
            write_script(name, "select 1;")
        assert [row.version for row in manager.overview().rows] == ["001", "002", "9", "10", "20260101"]

    def test_a_database_of_another_environment(self, make_manager: MakeManager, write_script: Write) -> None:
        make_manager("production").apply()
        overview = make_manager("staging").overview()
        assert (overview.environment, overview.remembered_environment) == ("staging", "production")
        (text,) = overview.warnings
        assert text.startswith("This database was set up for production, and this app runs as staging: nothing will be")
        assert told(overview)[0] is Verdict.UP_TO_DATE
        write_script("003_c.sql", "select 1;")
        assert make_manager("staging").overview().next_command == "flask db-migrate status --env production"
        assert make_manager("production").overview().next_command == "flask db-migrate apply"

    def test_the_environment_that_it_remembers(self, manager: Manager) -> None:
        assert manager.overview().remembered_environment is None
        manager.initialize()
        assert manager.overview().remembered_environment == "development"
        assert manager.overview().warnings == ()

    @only_postgresql
    def test_one_connection_of_the_host_s_pool_is_enough(self, make_manager: MakeManager, database: Database) -> None:
        engine = sa.create_engine(database.url, pool_size=1, max_overflow=0, pool_timeout=0.1)
        manager = make_manager(engine=engine)
        make_manager().apply()
        assert manager.overview().verdict is Verdict.UP_TO_DATE
        assert len(manager.history()) == 1
        engine.dispose()

    def test_the_place_is_told_without_anything_secret(self, manager: Manager, database: Database) -> None:
        shown = manager.overview().database
        assert shown.endswith(str(sa.make_url(database.url).database))
        assert shown.startswith(f"{database.kind}://")

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql+psycopg2://bob:s3cr3t@db01:5433/shop?sslpassword=s3cr3t", "postgresql://db01:5433/shop"),
            ("postgresql+psycopg2://bob:p%40s3cr3t@db01/shop", "postgresql://db01/shop"),
            ("postgresql+psycopg2://bob:p@s3cr3t@db01/shop", "postgresql://db01/shop"),
            ("postgresql+psycopg2://bob:s3cr3t@/shop", "postgresql:///shop"),
            ("sqlite:////srv/shop.sqlite?key=s3cr3t", "sqlite:////srv/shop.sqlite"),
            ("sqlite://", "sqlite:///"),
        ],
    )
    @only_sqlite
    def test_a_shown_url(self, database: Database, url: str, shown: str) -> None:
        assert shown_url(sa.make_url(url)) == shown


WAITING = """
import pathlib, time

{declarations}

def apply(conn, environment):
    conn.sql("create table c (id integer)").execute()
    pathlib.Path({started!r}).touch()
    while not pathlib.Path({go_on!r}).exists():
        time.sleep(0.01)
        conn.sql("select 1").execute()
"""


class Waiting:
    """A script that says when it runs, and goes on when it may."""

    def __init__(self, folder: Path, write_script: Write) -> None:
        self._folder = folder
        self._write = write_script
        self.started, self.go_on = folder / "started", folder / "go-on"

    def write(self, *, transactional: bool = True) -> None:
        declarations = "" if transactional else "transactional = False"
        text = WAITING.format(declarations=declarations, started=str(self.started), go_on=str(self.go_on))
        self._write("003_c.py", text)

    def await_start(self) -> None:
        deadline = time.monotonic() + 60
        while not self.started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def waiting(tmp_path: Path, write_script: Write) -> Waiting:
    return Waiting(tmp_path, write_script)


@pytest.mark.usefixtures("two")
class TestLastRun:
    def test_none(self, manager: Manager) -> None:
        assert manager.overview().last_run is None

    def test_succeeded(self, manager: Manager) -> None:
        manager.apply()
        run = manager.overview().last_run
        assert run is not None
        assert (run.outcome, run.direction, run.steps_done, run.error) == ("succeeded", Direction.APPLY, 2, None)
        assert (run.actor, run.source) == ("alice", "api")
        assert run.finished_at is not None
        assert run.started_at <= run.finished_at
        assert run.started_at.tzinfo is not None

    def test_failed(self, manager: Manager, write_script: Write) -> None:
        write_script("003_c.sql", "create table <c> (id integer);")
        with pytest.raises(MigrationFailed) as caught:
            manager.apply()
        run = manager.overview().last_run
        assert run is not None
        assert (run.outcome, run.failed_version, run.steps_done) == ("failed", "003", 2)
        assert run.error == caught.value.failure.message

    def test_running(self, manager: Manager, make_manager: MakeManager, waiting: Waiting) -> None:
        waiting.write()
        with Beside(make_manager().apply):
            waiting.await_start()
            overview = manager.overview()
            waiting.go_on.touch()
        assert overview.verdict is Verdict.RUNNING
        assert overview.last_run is not None
        assert (overview.last_run.outcome, overview.last_run.steps_done) == ("running", 2)
        assert overview.lock_holder is not None

    def test_cancelled(self, manager: Manager, make_manager: MakeManager, waiting: Waiting) -> None:
        waiting.write()
        other = make_manager()
        with Beside(other.apply) as run:
            waiting.await_start()
            other.cancel()
        assert isinstance(run.error, RunCancelledError)
        overview = manager.overview()
        assert overview.last_run is not None
        assert (overview.last_run.outcome, overview.last_run.failed_version) == ("cancelled", None)
        assert overview.verdict is Verdict.PENDING

    @pytest.mark.parametrize("transactional", [True, False])
    def test_killed(self, manager: Manager, database: Database, waiting: Waiting, transactional: bool) -> None:
        waiting.write(transactional=transactional)
        code = (
            "import sys; from cryoprotect.migrations_ext import apply_migrations;"
            "apply_migrations(sys.argv[1], migrations_dir=sys.argv[2])"
        )
        process = subprocess.Popen([sys.executable, "-c", code, database.url, str(manager.directory)], cwd=ROOT)
        waiting.await_start()
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        while (overview := manager.overview()).verdict is Verdict.RUNNING:  # until the server has seen it, too
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert overview.last_run is not None
        assert overview.last_run.outcome == "interrupted"
        if transactional:
            assert told(overview) == (
                Verdict.PENDING,
                "1 migration pending, 2 applied.",
                "flask db-migrate apply",
            )
        else:
            assert told(overview) == (
                Verdict.INTERRUPTED,
                "003_c was started without a transaction and never finished.",
                "flask db-migrate validate",
            )
            assert overview.counts["interrupted"] == 1

    def test_a_run_that_ends_while_it_is_looked_at_was_not_interrupted(
        self, make_manager: MakeManager, waiting: Waiting, database: Database
    ) -> None:
        waiting.write()
        engine = database.engine()
        connects: list[int] = []
        with Beside(make_manager().apply) as run:
            waiting.await_start()

            @sa.event.listens_for(engine, "do_connect")
            def end_the_run(*_: Any) -> None:
                connects.append(1)
                if len(connects) == 2:  # the journal was read, the lock is looked at next
                    waiting.go_on.touch()
                    run.thread.join()

            overview = make_manager(engine=engine).overview()
        assert run.error is None
        assert overview.last_run is not None
        assert overview.last_run.outcome == "succeeded"
        assert overview.verdict is Verdict.UP_TO_DATE


@contextmanager
def lock_held(manager: Manager) -> Iterator[int]:
    """Somebody called bob holds the migration lock; yields the process."""
    engine = sa.create_engine(manager.engine.url, poolclass=sa.NullPool)
    stop = threading.Event()
    with dialect_for(engine).lock(engine, manager.settings, actor="bob", on_wait=lambda holder: None, stop=stop):
        yield os.getpid()


class Beside:
    """Something that runs in a thread of its own: `with Beside(call) as run: …`, then `run.error`."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Beside:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(60)
