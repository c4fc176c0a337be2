"""The original design's functions: what they take, return and raise; its scripts and its table work unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session

import cryoprotect.migrations_ext as package
from cryoprotect.migrations_ext import (
    MigrationFailed,
    apply_migrations,
    get_applied_migrations,
    get_migration_status,
    initialize_migration_tracking,
    record_migration,
    remove_migration_record,
    rollback_migrations,
)
from cryoprotect.migrations_ext.api import Manager
from cryoprotect.migrations_ext.errors import (
    ConfigurationError,
    ConfirmationRequiredError,
    EnvironmentMismatchError,
    IrreversibleMigrationError,
    MigrationError,
    UnknownTargetError,
)
from cryoprotect.migrations_ext.model import Direction, Protection

from .conftest import Database

Write = Callable[[str, str], Path]
MakeApp = Callable[..., Flask]

only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@pytest.fixture
def three(write_script: Write) -> None:
    """Three migrations that can be taken back."""
    for number, name in ((1, "a"), (2, "b"), (10, "c")):
        write_script(
            f"{number:03}_{name}.sql",
            f"-- migrate:up\ncreate table {name} (id integer);\n-- migrate:down\ndrop table {name};\n",
        )


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is found by chance of the working directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)


def catalogue(database: Database) -> list[tuple[Any, ...]]:
    """Everything that a write of any kind would change."""
    if database.is_postgresql:
        objects = database.query(
            "select n.nspname, c.relname, c.xmin::text from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') order by 1, 2"
        )
    else:
        objects = database.query("select type, name, sql from sqlite_master order by 1, 2")
    rows = [(table, *row) for table in sorted(database.tables()) for row in database.query(f'select * from "{table}"')]
    return [*objects, *rows]


def versions(results: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(result["version"], result["status"]) for result in results]


APPLIED = [("001", "applied"), ("002", "applied"), ("010", "applied")]


@pytest.mark.usefixtures("three")
class TestWhatConnMayBe:
    @pytest.fixture(params=["engine", "url", "URL object", "connection"])
    def conn(self, request: pytest.FixtureRequest, database: Database) -> Iterator[Any]:
        if request.param == "connection":
            with database.engine().connect() as connection:
                yield connection
            return
        yield {"engine": database.engine(), "url": database.url, "URL object": sa.make_url(database.url)}[request.param]

    def test_all_functions_take_it(self, conn: Any, database: Database, scripts: Path) -> None:
        assert initialize_migration_tracking(conn) is True
        assert initialize_migration_tracking(conn) is True
        assert versions(apply_migrations(conn, migrations_dir=scripts)) == APPLIED
        assert list(get_migration_status(conn, migrations_dir=scripts)) == ["001", "002", "010"]
        assert [row["version"] for row in get_applied_migrations(conn)] == ["001", "002", "010"]
        assert versions(rollback_migrations(conn, migrations_dir=str(scripts), target_version="2")) == [
            ("010", "rolled_back")
        ]
        assert record_migration(conn, "010", "c") is True
        assert remove_migration_record(conn, "010") is True
        assert remove_migration_record(conn, "010") is False
        assert database.own_tables() == {"a", "b"}

    def test_the_current_app(self, app: Flask, database: Database) -> None:
        with app.app_context():
            assert initialize_migration_tracking() is True
            assert versions(apply_migrations()) == APPLIED
            assert set(get_migration_status()) == {"001", "002", "010"}
            assert record_migration(None, "011", "d")
            assert [row["version"] for row in get_applied_migrations()] == ["001", "002", "010", "011"]
            assert remove_migration_record(None, "011")
            assert len(rollback_migrations()) == 3
        assert database.own_tables() == set()

    def test_a_connection_inside_a_transaction_is_refused(self, database: Database, scripts: Path) -> None:
        with database.engine().connect() as connection:
            connection.execute(sa.text("select 1"))
            with pytest.raises(ConfigurationError, match="inside a transaction") as caught:
                apply_migrations(connection, migrations_dir=scripts)
            assert caught.value.hint == "Commit or roll back first, or pass the engine."
            connection.rollback()
            assert versions(apply_migrations(connection, migrations_dir=scripts)) == APPLIED

    @only_sqlite
    def test_the_connection_of_a_database_in_memory(self, database: Database, scripts: Path) -> None:
        engine = sa.create_engine("sqlite://")
        with engine.connect() as connection:
            assert versions(apply_migrations(connection, migrations_dir=scripts)) == APPLIED
            assert connection.execute(sa.text("select count(*) from a")).scalar_one() == 0
        engine.dispose()

    @only_sqlite
    def test_without_a_database_and_without_an_app(self, database: Database, scripts: Path) -> None:
        for call in (apply_migrations, get_migration_status, initialize_migration_tracking, get_applied_migrations):
            with pytest.raises(ConfigurationError, match="There is no current app") as caught:
                call()
            assert "with app.app_context()" in (caught.value.hint or "")

    @only_sqlite
    def test_an_app_that_was_never_initialised(self, database: Database) -> None:
        with Flask("bare").app_context(), pytest.raises(ConfigurationError, match="'bare' has no migrations") as caught:
            get_migration_status()
        assert "Migrations(db).init_app(app)" in (caught.value.hint or "")

    @only_sqlite
    @pytest.mark.parametrize("conn", [42, object(), Session(), b"sqlite://"])
    def test_anything_else_is_named(self, database: Database, conn: Any) -> None:
        with pytest.raises(ConfigurationError, match=f"conn is a {type(conn).__name__}; it can be an Engine"):
            apply_migrations(conn)

    @only_sqlite
    @pytest.mark.parametrize("url", ["no url", "mysql://bob:s3cr3t@h/d", "postgresql+asyncpg://bob:s3cr3t@h/d"])
    def test_a_bad_url_is_refused_without_being_repeated(self, database: Database, url: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            get_migration_status(url)
        assert caught.value.hint
        assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"

    def test_nothing_stays_open(self, database: Database, scripts: Path) -> None:
        """A pool that were forgotten would be a warning of Python's, and so an error here."""
        apply_migrations(database.url, migrations_dir=scripts)
        get_migration_status(database.url, migrations_dir=scripts)
        get_migration_status("sqlite://", migrations_dir=scripts)
        if database.is_postgresql:
            others = "select count(*) from pg_stat_activity where datname = current_database()"
            assert database.query(f"{others} and pid <> pg_backend_pid()") == [(0,)]


@pytest.mark.usefixtures("three")
class TestEnvironmentAndSettings:
    def test_without_an_app_it_is_development(self, database: Database, scripts: Path) -> None:
        apply_migrations(database.url, migrations_dir=scripts)
        assert database.query("select distinct environment from migrations") == [("development",)]

    @pytest.mark.parametrize("how", ["argument", "config", "variable"])
    def test_something_may_name_another(
        self, database: Database, scripts: Path, how: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if how == "argument":
            apply_migrations(database.url, migrations_dir=scripts, environment="staging")
        elif how == "config":
            apply_migrations(database.url, {"DB_MIGRATE_ENVIRONMENT": "staging"}, scripts)
        else:
            monkeypatch.setenv("DB_MIGRATE_ENVIRONMENT", "staging")
            apply_migrations(database.url, migrations_dir=scripts)
        assert database.query("select distinct environment from migrations") == [("staging",)]

    def test_with_an_app_around_its_environment_and_settings_count(self, make_app: MakeApp, database: Database) -> None:
        app = make_app(DB_MIGRATE_ENVIRONMENT="staging", DB_MIGRATE_TABLE="ours")
        with app.app_context():
            assert versions(apply_migrations(database.engine())) == APPLIED
            record_migration(database.engine(), "11", "d")
            assert len(get_applied_migrations(database.engine())) == 4
        assert database.query("select distinct environment from ours where version <> '11'") == [("staging",)]
        assert "migrations" not in database.tables()

    def test_config_is_laid_over_the_app_s(self, make_app: MakeApp, database: Database) -> None:
        app = make_app(DB_MIGRATE_ENVIRONMENT="staging")
        with app.app_context():
            assert versions(apply_migrations(config={"DB_MIGRATE_TABLE": "ours"})) == APPLIED
        assert database.query("select distinct environment from ours") == [("staging",)]

    @only_sqlite
    def test_a_key_that_is_none(self, database: Database) -> None:
        with pytest.raises(ConfigurationError, match="DB_MIGRATE_TABEL is not a setting"):
            get_migration_status(database.url, {"DB_MIGRATE_TABEL": "x"})

    @only_sqlite
    def test_an_environment_that_is_none(self, database: Database, scripts: Path) -> None:
        with pytest.raises(ConfigurationError, match="Unknown environment 'prod'"):
            apply_migrations(database.url, migrations_dir=scripts, environment="prod")

    @only_sqlite
    def test_the_folder_without_an_argument(
        self, database: Database, scripts: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert versions(apply_migrations(database.url, {"DB_MIGRATE_DIRECTORY": str(scripts)}, dry_run=True))
        monkeypatch.chdir(scripts.parent)
        assert versions(apply_migrations(database.url, dry_run=True))
        assert versions(apply_migrations(database.url, migrations_dir="migration_scripts", dry_run=True))

    def test_a_database_set_up_for_another_environment_is_left_alone(self, database: Database, scripts: Path) -> None:
        apply_migrations(database.url, migrations_dir=scripts, target_version="1", environment="production")
        with pytest.raises(EnvironmentMismatchError, match="set up for production"):
            apply_migrations(database.url, migrations_dir=scripts)
        assert database.own_tables() == {"a"}


@pytest.mark.usefixtures("three")
class TestResults:
    """They are what `--format json` prints: nothing but JSON's own types."""

    def test_of_apply_and_rollback(self, database: Database, scripts: Path) -> None:
        applied = apply_migrations(database.url, migrations_dir=scripts, target_version="2")
        assert json.loads(json.dumps(applied)) == applied
        assert versions(applied) == APPLIED[:2]
        assert datetime.fromisoformat(applied[0]["applied_at"]).tzinfo is not None
        assert applied[0] == {
            "version": "001",
            "name": "a",
            "status": "applied",
            "applied_at": applied[0]["applied_at"],
            "duration_ms": applied[0]["duration_ms"],
            "script": str(scripts / "001_a.sql"),
        }
        taken_back = rollback_migrations(database.url, migrations_dir=scripts)
        assert versions(taken_back) == [("002", "rolled_back"), ("001", "rolled_back")]
        assert taken_back[0]["applied_at"] is None
        assert apply_migrations(database.url, migrations_dir=scripts, target_version="0") == []
        assert rollback_migrations(database.url, migrations_dir=scripts) == []

    def test_they_are_the_command_line_s(self, app: Flask, database: Database) -> None:
        runner = app.test_cli_runner()

        def printed(*command: str) -> Any:
            return json.loads(runner.invoke(args=["db-migrate", *command, "--format", "json"]).stdout)

        def without_texts(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [{key: value for key, value in result.items() if key != "text"} for result in results]

        with app.app_context():
            assert apply_migrations(dry_run=True) == without_texts(printed("apply", "--dry-run"))
            keys = [set(result) for result in apply_migrations()]
            assert get_migration_status() == printed("status")
            assert rollback_migrations(dry_run=True) == without_texts(printed("rollback", "--dry-run"))
            rollback_migrations()
        assert [set(result) for result in printed("apply")] == keys

    def test_of_a_dry_run_nothing_is_left(self, database: Database, scripts: Path) -> None:
        before = catalogue(database)
        would = apply_migrations(database.url, migrations_dir=scripts, target_version="2", dry_run=True)
        assert versions(would) == [("001", "would_apply"), ("002", "would_apply")]
        assert catalogue(database) == before
        apply_migrations(database.url, migrations_dir=scripts)
        before = catalogue(database)
        would = rollback_migrations(database.url, migrations_dir=scripts, target_version="1", dry_run=True)
        assert versions(would) == [("010", "would_rollback"), ("002", "would_rollback")]
        assert catalogue(database) == before

    def test_status(self, database: Database, scripts: Path) -> None:
        before = catalogue(database)
        status = get_migration_status(database.url, migrations_dir=scripts)
        assert {version: facts["status"] for version, facts in status.items()} == {
            "001": "pending",
            "002": "pending",
            "010": "pending",
        }
        assert catalogue(database) == before  # not even the table is made
        apply_migrations(database.url, migrations_dir=scripts, target_version="1")
        before = catalogue(database)
        status = get_migration_status(database.url, migrations_dir=scripts)
        assert json.loads(json.dumps(status)) == status
        first = status["001"]
        assert (first["status"], first["name"], first["script"]) == ("applied", "a", str(scripts / "001_a.sql"))
        assert datetime.fromisoformat(first["applied_at"]).tzinfo is not None
        assert (first["edited"], first["missing"], first["reversible"], first["last_error"]) == (
            False,
            False,
            True,
            None,
        )
        assert status["010"]["applied_at"] is None
        assert catalogue(database) == before

    def test_of_applied_migrations(self, database: Database, scripts: Path) -> None:
        assert get_applied_migrations(database.url) == []
        assert database.tables() == set()
        apply_migrations(database.url, migrations_dir=scripts)
        found = get_applied_migrations(database.url)
        assert json.loads(json.dumps(found)) == found
        assert [(row["version"], row["name"], row["status"]) for row in found] == [
            ("001", "a", "applied"),
            ("002", "b", "applied"),
            ("010", "c", "applied"),
        ]
        assert set(found[0]) == {"id", "version", "name", "applied_at", "status"}


class TestFailure:
    """Failure raises; what was completed before it is told and stays."""

    @pytest.mark.usefixtures("three")
    def test_of_a_script(self, database: Database, scripts: Path, write_script: Write) -> None:
        write_script("003_bad.sql", "create table d (id integer);\ncreate table <e> (id integer);")
        with pytest.raises(MigrationFailed) as caught:
            apply_migrations(database.url, migrations_dir=scripts)
        error = caught.value
        assert (error.version, error.file, error.line) == ("003", scripts / "003_bad.sql", 2)
        assert [done.version for done in error.completed] == ["001", "002"]
        assert "Nothing is half done." in error.failure.database_state
        assert error.hint == "Mend 003_bad.sql."
        assert database.own_tables() == {"a", "b"}
        assert [row["version"] for row in get_applied_migrations(database.url)] == ["001", "002"]
        status = get_migration_status(database.url, migrations_dir=scripts)["003"]
        assert status["status"] == "pending"
        assert "<" in status["last_error"]

    def test_of_a_script_without_an_apply_function(
        self, database: Database, scripts: Path, write_script: Write
    ) -> None:
        write_script("001_a.py", "def aply(conn, environment): ...\n")
        with pytest.raises(MigrationError) as caught:
            apply_migrations(database.url, migrations_dir=scripts)
        assert "001_a.py" in str(caught.value)
        assert database.tables() == set()

    @pytest.mark.usefixtures("three")
    def test_of_a_dry_run_that_meets_a_bad_script(self, database: Database, scripts: Path, write_script: Write) -> None:
        write_script("003_bad.py", "def apply(conn, environment):\n    return (\n")
        with pytest.raises(MigrationError) as caught:
            apply_migrations(database.url, migrations_dir=scripts, dry_run=True)
        assert (caught.value.file, caught.value.line) == (scripts / "003_bad.py", 2)
        assert "003_bad.py, line 2" in str(caught.value)

    @pytest.mark.usefixtures("three")
    def test_of_an_unknown_target(self, database: Database, scripts: Path) -> None:
        for call in (apply_migrations, rollback_migrations):
            with pytest.raises(UnknownTargetError, match="There is no migration '9'") as caught:
                call(database.url, migrations_dir=scripts, target_version="9")
            assert "The nearest is 010" in (caught.value.hint or "")

    def test_of_a_missing_folder(self, database: Database, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="is not there"):
            apply_migrations(database.url, migrations_dir=tmp_path / "nowhere")

    def test_of_a_migration_that_cannot_be_taken_back(
        self, database: Database, scripts: Path, write_script: Write
    ) -> None:
        write_script("001_a.sql", "create table a (id integer);")
        apply_migrations(database.url, migrations_dir=scripts)
        with pytest.raises(IrreversibleMigrationError):
            rollback_migrations(database.url, migrations_dir=scripts)
        assert database.own_tables() == {"a"}

    @only_sqlite
    def test_every_error_of_ours_has_one_base(self, database: Database) -> None:
        assert issubclass(MigrationFailed, MigrationError)
        with pytest.raises(package.MigrationError):
            apply_migrations("no url")


@pytest.mark.usefixtures("three")
class TestProtectedRollback:
    """Where rollbacks are protected, rolling back everything has to be said twice."""

    @pytest.mark.parametrize("environment", ["staging", "production"])
    def test_everything_needs_the_environment(self, make_app: MakeApp, database: Database, environment: str) -> None:
        with make_app(DB_MIGRATE_ENVIRONMENT=environment).app_context():
            apply_migrations()
            with pytest.raises(ConfirmationRequiredError, match=f"everything in {environment}") as caught:
                rollback_migrations()
            assert f"environment='{environment}'" in (caught.value.hint or "")
            assert database.own_tables() == {"a", "b", "c"}
            assert len(rollback_migrations(dry_run=True)) == 3
            assert len(rollback_migrations(target_version="2")) == 1
            assert len(rollback_migrations(environment=environment)) == 2
        assert database.own_tables() == set()

    @pytest.mark.parametrize("environment", ["development", "testing"])
    def test_elsewhere_it_does_not(self, make_app: MakeApp, environment: str) -> None:
        with make_app(DB_MIGRATE_ENVIRONMENT=environment).app_context():
            apply_migrations()
            assert len(rollback_migrations()) == 3

    @only_sqlite
    @pytest.mark.parametrize("environment", ["development", "production"])
    def test_the_host_may_decide_otherwise(self, make_app: MakeApp, environment: str) -> None:
        protect = Protection.NONE if environment == "production" else Protection.ASK
        with make_app(DB_MIGRATE_ENVIRONMENT=environment, DB_MIGRATE_PROTECT=protect.value).app_context():
            apply_migrations()
            if protect is Protection.NONE:
                assert len(rollback_migrations()) == 3
            else:
                with pytest.raises(ConfirmationRequiredError):
                    rollback_migrations()


class TestTracking:
    def test_initialize_makes_the_table_and_nothing_else(self, database: Database) -> None:
        assert initialize_migration_tracking(database.url) is True
        assert "migrations" in database.tables()
        assert database.own_tables() == set()
        before = catalogue(database)
        assert initialize_migration_tracking(database.url) is True
        assert catalogue(database) == before
        assert database.query("select * from migrations") == []

    def test_initialize_sets_no_environment(self, database: Database, scripts: Path, write_script: Write) -> None:
        initialize_migration_tracking(database.url)
        write_script("001_a.sql", "create table a (id integer);")
        apply_migrations(database.url, migrations_dir=scripts, environment="production")
        assert database.own_tables() == {"a"}

    def test_record_and_remove(self, database: Database, scripts: Path, write_script: Write) -> None:
        path = write_script("001_a.sql", "create table a (id integer);")
        assert record_migration(database.url, "001", "a") is True
        assert get_migration_status(database.url, migrations_dir=scripts)["001"]["status"] == "applied"
        path.write_text("create table a (id integer, name text);")
        assert get_migration_status(database.url, migrations_dir=scripts)["001"]["edited"] is False
        assert apply_migrations(database.url, migrations_dir=scripts) == []
        assert database.own_tables() == set()
        with pytest.raises(ConfigurationError, match="001 is recorded already"):
            record_migration(database.url, "001", "a")
        assert remove_migration_record(database.url, "001") is True
        assert remove_migration_record(database.url, "001") is False
        assert versions(apply_migrations(database.url, migrations_dir=scripts)) == [("001", "applied")]

    def test_only_the_status_applied_means_applied(
        self, database: Database, scripts: Path, write_script: Write
    ) -> None:
        write_script("001_a.sql", "create table a (id integer);")
        record_migration(database.url, "001", "a", "reverted")
        assert get_applied_migrations(database.url) == []
        assert versions(apply_migrations(database.url, migrations_dir=scripts)) == [("001", "applied")]

    @pytest.mark.parametrize(
        ("version", "name", "status", "said"),
        [
            ("v1", "a", "applied", "'v1' is no version."),
            ("9" * 51, "a", "applied", "is no version."),
            ("1", "a\0b", "applied", "cannot be recorded as name."),
            ("1", "a" * 256, "applied", "cannot be recorded as name."),
            ("1", "", "applied", "cannot be recorded as name."),
            ("1", "a", "s" * 51, "cannot be recorded as status."),
        ],
    )
    def test_what_no_row_can_hold_is_refused(
        self, database: Database, version: str, name: str, status: str, said: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            record_migration(database.url, version, name, status)
        assert caught.value.message.endswith(said)
        assert caught.value.hint
        assert database.tables() == set()

    def test_both_are_in_the_journal(self, database: Database) -> None:
        record_migration(database.url, "001", "a")
        remove_migration_record(database.url, "001")
        assert database.query(
            "select event, version, source from migrations_journal where version = '001' order by id"
        ) == [("recorded", "001", "api"), ("removed", "001", "api")]


class TestManager:
    """What the doors call beyond the original's functions."""

    @pytest.fixture
    def manager(self, make_app: MakeApp) -> Iterator[Manager]:
        with make_app(DB_MIGRATE_ENVIRONMENT="production").app_context():
            yield Manager.for_app()

    @pytest.mark.usefixtures("three")
    def test_the_question_before_a_rollback(self, manager: Manager, database: Database) -> None:
        manager.apply()
        assert manager.confirmation(manager.plan(Direction.ROLLBACK, steps=1)) is None
        asked = manager.confirmation(manager.plan(Direction.ROLLBACK))
        assert asked is not None
        assert asked.protection is Protection.TYPE_NAME
        assert asked.expected == manager.database_name == Path(str(sa.make_url(database.url).database)).name
        assert asked.question.startswith(f"This rolls back 3 migrations of {manager.database_name} (production).")

    @pytest.mark.usefixtures("three")
    def test_nothing_is_asked_before_an_apply(self, manager: Manager) -> None:
        assert manager.confirmation(manager.plan(Direction.APPLY)) is None

    @pytest.mark.usefixtures("three")
    def test_check_says_what_would_run_and_writes_nothing(self, manager: Manager, database: Database) -> None:
        assert [step.migration.version for step in manager.check().steps] == ["001", "002", "010"]
        assert database.tables() == set()

    @pytest.mark.usefixtures("three")
    def test_check_finds_an_edited_file_although_nothing_is_pending(
        self, manager: Manager, write_script: Write
    ) -> None:
        manager.apply()
        assert manager.check().steps == ()
        write_script("002_b.sql", "create table b (id integer, name text);")
        with pytest.raises(MigrationError, match="002_b was edited"):
            manager.check()

    @only_sqlite
    def test_it_closes_what_it_opened_and_keeps_a_database_in_memory(self, make_app: MakeApp) -> None:
        app = make_app(SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_ENGINE_OPTIONS={})
        with app.app_context():
            manager = Manager.for_app()
            manager.initialize()
            manager.let_go()
            assert manager.overview().remembered_environment == "development"
            manager.engine.dispose()


ORIGINAL_SCRIPT = '''
"""
Migration: 001_initial_schema

Creates the initial database schema.
"""

import logging
from typing import Any

logger = logging.getLogger(__name__)

def apply(conn: Any, environment: str):
    logger.info(f"Applying migration 001_initial_schema in {environment} environment")

    # Example: create tables
    conn.sql("""
        CREATE TABLE IF NOT EXISTS molecules (
            id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
            name VARCHAR(255) NOT NULL,
            formula VARCHAR(255),
            smiles TEXT,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW()
        );

        CREATE TABLE IF NOT EXISTS mixtures (
            id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
            name VARCHAR(255) NOT NULL,
            description TEXT,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW()
        );

        CREATE TABLE IF NOT EXISTS mixture_components (
            id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
            mixture_id UUID REFERENCES mixtures(id) ON DELETE CASCADE,
            molecule_id UUID REFERENCES molecules(id) ON DELETE RESTRICT,
            concentration NUMERIC(10, 5),
            units VARCHAR(50),
            created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW()
        );
    """).execute()

def rollback(conn: Any, environment: str):
    logger.info(f"Rolling back migration 001_initial_schema in {environment} environment")

    # Drop tables in reverse order
    conn.sql("""
        DROP TABLE IF EXISTS mixture_components;
        DROP TABLE IF EXISTS mixtures;
        DROP TABLE IF EXISTS molecules;
    """).execute()
'''

# The way in which the original's own code talks to its database.
ORIGINAL_CALLS = """
def apply(conn, environment):
    result = conn.rpc('has_table', {'table_name': 'molecules'}).execute()
    table_exists = result.data[0] if result.data else False
    if not table_exists:
        raise RuntimeError("molecules should be there")
    result = conn.rpc('has_table', {'table_name': 'nowhere'}).execute()
    if result.data[0] if result.data else False:
        raise RuntimeError("nowhere should not be there")
    conn.table('molecules').insert({'name': 'DMSO', 'formula': 'C2H6OS'}).execute()
    conn.table('molecules').insert([{'name': 'Glycerol'}, {'name': 'Trehalose'}]).execute()
    result = conn.table('molecules').select('*').order('name').execute()
    names = [m['name'] for m in (result.data if result.data else [])]
    if names != ['DMSO', 'Glycerol', 'Trehalose']:
        raise RuntimeError(names)
    conn.table('molecules').delete().eq('name', 'Glycerol').execute()

def rollback(conn, environment):
    for name in ('DMSO', 'Trehalose'):
        conn.table('molecules').delete().eq('name', name).execute()
"""


@only_postgresql
class TestOriginalScripts:
    """They run unchanged."""

    def test_there_and_back(
        self, database: Database, scripts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (scripts / "001_initial_schema.py").write_text(ORIGINAL_SCRIPT, encoding="utf-8")
        (scripts / "002_sample_data.py").write_text(ORIGINAL_CALLS, encoding="utf-8")
        (scripts / "__init__.py").write_text("", encoding="utf-8")  # as the original's folder has one
        assert versions(apply_migrations(database.engine(), migrations_dir=str(scripts))) == APPLIED[:2]
        assert database.query("select name from molecules order by 1") == [("DMSO",), ("Trehalose",)]
        status = get_migration_status(database.engine(), migrations_dir=str(scripts))
        assert [facts["name"] for facts in status.values()] == ["initial_schema", "sample_data"]
        rolled_back = rollback_migrations(database.engine(), migrations_dir=str(scripts), target_version="001")
        assert versions(rolled_back) == [("002", "rolled_back")]
        assert database.query("select count(*) from molecules") == [(0,)]
        assert versions(rollback_migrations(database.engine(), None, str(scripts), None, "development")) == [
            ("001", "rolled_back")
        ]
        assert database.own_tables() == set()


@only_postgresql
class TestOriginalTable:
    """The table that the original made, with its rows, is taken over: read as it is, widened by the first write."""

    FIVE = ("id", "version", "name", "applied_at", "status")

    @pytest.fixture(autouse=True)
    def _as_the_original_left_it(self, database: Database, scripts: Path) -> None:
        database.execute(
            "CREATE TABLE migrations (id SERIAL PRIMARY KEY, version VARCHAR(50) NOT NULL, name VARCHAR(255) NOT NULL,"
            " applied_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(), status VARCHAR(50) DEFAULT 'applied')"
        )
        database.execute("CREATE UNIQUE INDEX migrations_version_idx ON migrations(version)")
        database.execute("INSERT INTO migrations (version, name) VALUES ('001', 'initial_schema'), ('002', 'gone')")
        (scripts / "001_initial_schema.py").write_text(ORIGINAL_SCRIPT, encoding="utf-8")
        (scripts / "003_more.sql").write_text("create table more (id integer);", encoding="utf-8")

    def columns(self, database: Database) -> tuple[str, ...]:
        return tuple(c["name"] for c in sa.inspect(database.engine()).get_columns("migrations"))

    def test_is_read_as_it_is(self, database: Database, scripts: Path) -> None:
        before = catalogue(database)
        status = get_migration_status(database.url, migrations_dir=scripts)
        assert {version: facts["status"] for version, facts in status.items()} == {
            "001": "applied",
            "002": "applied",
            "003": "pending",
        }
        assert status["001"]["edited"] is False  # nothing was recorded that it could differ from
        assert status["002"]["missing"] is True
        assert [row["version"] for row in get_applied_migrations(database.url)] == ["001", "002"]
        assert catalogue(database) == before
        assert self.columns(database) == self.FIVE

    def test_is_widened_by_the_first_write_and_keeps_its_rows(self, database: Database, scripts: Path) -> None:
        rows = database.query("select * from migrations order by id")
        assert versions(apply_migrations(database.url, migrations_dir=scripts)) == [("003", "applied")]
        assert self.columns(database) == (*self.FIVE, "checksum", "environment", "duration_ms", "applied_by")
        assert database.query(f"select {', '.join(self.FIVE)} from migrations order by id limit 2") == rows
        assert database.query("select version, checksum is null from migrations order by id") == [
            ("001", True),
            ("002", True),
            ("003", False),
        ]
        status = get_migration_status(database.url, migrations_dir=scripts)
        assert [facts["edited"] for facts in status.values()] == [False, False, False]

    def test_may_be_migrated_by_any_environment_first(self, database: Database, scripts: Path) -> None:
        (scripts / "002_gone.sql").write_text("select 1;", encoding="utf-8")
        apply_migrations(database.url, migrations_dir=scripts, environment="production")
        (scripts / "004_last.sql").write_text("create table last (id integer);", encoding="utf-8")
        with pytest.raises(EnvironmentMismatchError):
            apply_migrations(database.url, migrations_dir=scripts, environment="staging")

    def test_initialize_widens_it(self, database: Database) -> None:
        assert initialize_migration_tracking(database.url) is True
        assert len(self.columns(database)) == 9
        assert len(get_applied_migrations(database.url)) == 2

    def test_its_migrations_can_be_taken_back(self, database: Database, scripts: Path) -> None:
        remove_migration_record(database.url, "002")
        (scripts / "003_more.sql").unlink()
        assert versions(rollback_migrations(database.url, migrations_dir=scripts)) == [("001", "rolled_back")]
