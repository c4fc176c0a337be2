"""Every command on both databases: what it prints, the shape of its JSON, its exit code, and what it leaves behind."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from cryoprotect.migrations_ext.api import Manager
from cryoprotect.migrations_ext.cli import db_migrate

from .conftest import Database

Write = Callable[[str, str], Path]
MakeApp = Callable[..., Flask]
Run = Callable[..., Result]

REVERSIBLE = "-- migrate:up\ncreate table {name} (id integer);\n-- migrate:down\ndrop table {name};\n"


def table_script(name: str) -> str:
    """The text of a reversible SQL script."""
    return REVERSIBLE.format(name=name)


@pytest.fixture
def three(write_script: Write) -> None:
    """Three reversible migrations; numbers that sort otherwise as text."""
    write_script("2_second.sql", table_script("second"))
    write_script("10_tenth.sql", table_script("tenth"))
    write_script(
        "001_first.py",
        """
        def apply(conn, environment):
            conn.sql("create table first (id integer)").execute()

        def rollback(conn, environment):
            conn.sql("drop table first").execute()
        """,
    )


@pytest.fixture
def run(make_app: MakeApp) -> Run:
    """Run a command in a fresh app: `run("status", "--check", DB_MIGRATE_EDITED="error")`."""

    def invoke(*args: str, **config: Any) -> Result:
        # SystemExit is how commands end; any other exception is a failure of the test.
        return make_app(**config).test_cli_runner().invoke(args=["db-migrate", *args], catch_exceptions=False)

    return invoke


def document(result: Result) -> Any:
    """Stdout, which must be one JSON document."""
    return json.loads(result.stdout)


class TestStatus:
    @pytest.mark.usefixtures("three")
    def test_before_anything_was_applied(self, run: Run, database: Database) -> None:
        result = run("status")
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert "3 migrations pending" in lines[0]
        assert [line.split()[0] for line in lines if "pending" in line][1:] == ["001", "2", "10"]
        assert lines[-1] == "Next: flask db-migrate apply"
        assert database.tables() == set()

    @pytest.mark.usefixtures("three")
    def test_afterwards(self, run: Run) -> None:
        run("apply", "--target", "2")
        result = run("status")
        first = next(line for line in result.stdout.splitlines() if line.startswith("001"))
        assert first.split()[:3] == ["001", "first", "applied"]
        assert " ms" in first
        assert "\x1b" not in result.stdout

    @pytest.mark.usefixtures("three")
    def test_json(self, run: Run, scripts: Path) -> None:
        run("apply", "--target", "2")
        found = document(run("status", "--format", "json"))
        assert list(found) == ["001", "2", "10"]
        entry = found["001"]
        assert entry["version"] == "001"
        assert entry["name"] == "first"
        assert entry["script"] == str(scripts / "001_first.py")
        assert entry["status"] == "applied"
        assert datetime.fromisoformat(entry["applied_at"]).utcoffset() == timedelta(0)
        assert entry["applied_at"].endswith("+00:00")
        assert entry["environment"] == "development"
        assert isinstance(entry["duration_ms"], int)
        assert len(entry["checksum"]) == 64
        assert entry["reversible"] is True
        assert found["10"]["status"] == "pending"
        assert found["10"]["applied_at"] is None
        for flag in ("edited", "missing", "out_of_order"):
            assert entry[flag] is False

    @pytest.mark.usefixtures("three")
    def test_flags(self, run: Run, scripts: Path, write_script: Write) -> None:
        run("apply")
        (scripts / "2_second.sql").unlink()
        write_script("10_tenth.sql", "create table other (id integer);")
        write_script("5_late.sql", "create table late (id integer);")
        found = document(run("status", "--format", "json"))
        assert found["2"]["missing"] is True
        assert found["2"]["script"] is None
        assert found["10"]["edited"] is True
        assert found["5"]["out_of_order"] is True
        text = run("status").stdout
        assert "applied, missing" in text
        assert "applied, edited" in text
        assert "pending, out of order" in text
        assert "Warning: " in text

    @pytest.mark.usefixtures("three")
    def test_check_says_by_its_code_what_is_pending(self, run: Run, database: Database) -> None:
        assert run("status", "--check").exit_code == 3
        assert database.tables() == set()
        run("apply")
        assert run("status", "--check").exit_code == 0

    @pytest.mark.usefixtures("three")
    @pytest.mark.parametrize("command", ["status", "apply"])
    def test_check_says_by_its_code_that_history_disagrees(self, run: Run, write_script: Write, command: str) -> None:
        run("apply")
        write_script("10_tenth.sql", "create table other (id integer);")
        assert run(command, "--check").exit_code == 0  # development only warns
        result = run(command, "--check", DB_MIGRATE_EDITED="error")
        assert result.exit_code == 5
        assert "10_tenth was edited" in result.stderr
        json.loads(run(command, "--check", "--format", "json", DB_MIGRATE_EDITED="error").stdout)

    def test_without_a_folder(self, run: Run, tmp_path: Path) -> None:
        result = run("status", "--dir", str(tmp_path / "nowhere"))
        assert result.exit_code == 2
        assert "nowhere" in result.stdout

    @pytest.mark.usefixtures("three")
    def test_the_folder_can_be_another_one(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "7_x.sql").write_text("select 1")
        assert list(document(run("status", "--dir", str(tmp_path / "other"), "--format", "json"))) == ["7"]

    def test_problems_of_the_folder_come_with_their_cure(self, run: Run, write_script: Write) -> None:
        write_script("001_a.sql", "select 1")
        write_script("1_b.sql", "select 1")
        result = run("status")
        assert "Problem: " in result.stdout
        assert "001_a.sql" in result.stdout
        assert "1_b.sql" in result.stdout


class TestApply:
    @pytest.mark.usefixtures("three")
    def test_says_each_step_and_what_comes_next(self, run: Run, database: Database) -> None:
        result = run("apply")
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert [line.rsplit("  ", 1)[0] for line in lines[:3]] == [
            "applied 001_first",
            "applied 2_second",
            "applied 10_tenth",
        ]
        assert all(line.endswith((" ms", " s")) for line in lines[:3])
        assert lines[3].startswith("Applied 3 migrations to ")
        assert lines[4] == "Next: flask run"
        assert lines[5:] == ["  http://127.0.0.1:5000/admin/migrations"]
        assert result.stderr == ""
        assert database.own_tables() == {"first", "second", "tenth"}

    @pytest.mark.usefixtures("three")
    def test_json_is_a_list_of_what_was_done(self, run: Run) -> None:
        done = document(run("apply", "--format", "json"))
        assert [(e["version"], e["name"], e["status"]) for e in done] == [
            ("001", "first", "applied"),
            ("2", "second", "applied"),
            ("10", "tenth", "applied"),
        ]
        assert all(e["applied_at"].endswith("+00:00") and isinstance(e["duration_ms"], int) for e in done)
        assert document(run("apply", "--format", "json")) == []

    @pytest.mark.usefixtures("three")
    def test_nothing_to_do(self, run: Run) -> None:
        run("apply")
        assert run("apply").stdout.startswith("Nothing to do: the database is up to date (3 applied).\n")
        assert run("apply", "--target", "2").stdout.startswith("Nothing to do: everything up to 2 is applied.\n")

    @pytest.mark.usefixtures("three")
    def test_up_to_a_target(self, run: Run, database: Database) -> None:
        assert run("apply", "--target", "002").exit_code == 0  # versions are numbers
        assert database.own_tables() == {"first", "second"}

    @pytest.mark.usefixtures("three")
    def test_a_number_of_steps(self, run: Run, database: Database) -> None:
        assert run("apply", "--steps", "1").exit_code == 0
        assert database.own_tables() == {"first"}

    @pytest.mark.usefixtures("three")
    def test_dry_run_shows_the_texts_and_changes_nothing(self, run: Run, database: Database) -> None:
        result = run("apply", "--dry-run")
        assert result.exit_code == 0
        assert "-- would apply 001_first (" in result.stdout
        assert 'conn.sql("create table first (id integer)").execute()' in result.stdout
        assert "create table tenth (id integer);" in result.stdout
        assert "drop table tenth" not in result.stdout
        assert "Dry run: 3 migrations would be applied; nothing was changed.\nNext: flask db-migrate apply\n" in (
            result.stdout
        )
        assert database.tables() == set()

    @pytest.mark.usefixtures("three")
    def test_dry_run_as_json(self, run: Run) -> None:
        planned = document(run("apply", "--dry-run", "--target", "2", "--format", "json"))
        assert [(e["version"], e["status"], e["applied_at"]) for e in planned] == [
            ("001", "would_apply", None),
            ("2", "would_apply", None),
        ]
        assert "create table second" in planned[1]["text"]

    @pytest.mark.usefixtures("three")
    def test_check(self, run: Run, database: Database) -> None:
        result = run("apply", "--check")
        assert result.exit_code == 3
        assert result.stdout.splitlines()[0] == "would apply 001_first"
        assert "3 migrations pending." in result.stdout
        pending = run("apply", "--check", "--format", "json")
        assert pending.exit_code == 3
        assert [e["status"] for e in document(pending)] == ["would_apply"] * 3
        assert database.tables() == set()
        run("apply")
        assert run("apply", "--check").exit_code == 0

    def test_what_a_policy_warns_about_is_talk(self, run: Run, write_script: Write) -> None:
        write_script("005_e.sql", "create table e (id integer)")
        run("apply")
        write_script("003_c.sql", "create table c (id integer)")
        result = run("apply")
        assert result.exit_code == 0
        assert "Warning: 003_c is older than" in result.stderr
        assert "Warning" not in result.stdout

    def test_the_next_step_outside_development_is_status(self, run: Run, write_script: Write) -> None:
        write_script("001_a.sql", "create table a (id integer)")
        result = run("apply", DB_MIGRATE_ENVIRONMENT="staging")
        assert result.stdout.splitlines()[-1] == "Next: flask db-migrate status"

    @pytest.mark.usefixtures("three")
    def test_without_the_admin_page_nothing_points_there(self, run: Run) -> None:
        assert "http" not in run("apply", DB_MIGRATE_ADMIN=False).stdout

    @pytest.mark.usefixtures("three")
    def test_the_admin_page_where_it_really_is(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLASK_RUN_PORT", "8080")
        result = run("apply", DB_MIGRATE_URL_PREFIX="/ops/db")
        assert result.stdout.endswith("  http://127.0.0.1:8080/ops/db\n")


class TestFailure:
    @pytest.fixture
    def broken(self, write_script: Write) -> None:
        write_script("001_a.sql", "create table a (id integer);")
        write_script("002_b.sql", "create table b (id integer);\ninsert into nowhere values (1);\n")

    @pytest.mark.usefixtures("broken")
    def test_is_reported_in_full(self, run: Run, database: Database) -> None:
        result = run("apply")
        assert result.exit_code == 1
        assert result.stdout.startswith("applied 001_a  ")
        for part in (
            "Error: Migration 002_b did not apply: ",
            "nowhere",
            "002_b.sql, line 2",
            "2 of 2",
            "insert into nowhere values (1)",
            "Done before: applied 001_a.",
            "What state is the database in?",
            "What now?\n  1. ",
        ):
            assert part in result.stderr
        assert "Traceback" not in result.output
        assert database.own_tables() == {"a"}

    @pytest.mark.usefixtures("broken")
    def test_the_caret_only_where_the_server_gave_a_column(self, run: Run, database: Database) -> None:
        lines = run("apply").stderr.splitlines()
        carets = [line for line in lines if line.strip(" |") == "^"]
        assert bool(carets) == database.is_postgresql
        if carets:
            source = lines[lines.index(carets[0]) - 1]
            assert source[carets[0].index("^") :].startswith("nowhere")

    @pytest.mark.usefixtures("broken")
    def test_as_json(self, run: Run) -> None:
        result = run("apply", "--format", "json")
        assert result.exit_code == 1
        told = document(result)
        assert set(told) == {"error", "completed", "failed", "database_state"}
        assert told["error"]["type"] == "MigrationFailed"
        assert [e["version"] for e in told["completed"]] == ["001"]
        assert told["failed"]["version"] == "002"
        assert told["failed"]["file"].endswith("002_b.sql")
        assert told["failed"]["line"] == 2
        assert told["failed"]["statement"] == "insert into nowhere values (1)"
        assert told["database_state"]
        assert "002_b" in result.stderr

    @pytest.mark.usefixtures("broken")
    def test_debug_shows_the_traceback_at_both_places(self, run: Run) -> None:
        for args in (("--debug", "apply"), ("apply", "--debug")):
            assert "Traceback (most recent call last)" in run(*args).stderr

    @pytest.mark.usefixtures("broken")
    def test_a_mended_script_goes_on(self, run: Run, write_script: Write, database: Database) -> None:
        run("apply")
        write_script("002_b.sql", "create table b (id integer);")
        assert run("apply").stdout.startswith("applied 002_b ")
        assert database.own_tables() == {"a", "b"}

    def test_of_a_script_that_cannot_run(self, run: Run, write_script: Write, database: Database) -> None:
        path = write_script("001_a.py", "def apply(conn, environment:\n    pass\n")
        result = run("apply")
        assert result.exit_code in (1, 5)
        assert path.name in result.stderr
        assert "line 1" in result.stderr
        assert "Traceback" not in result.stderr
        assert database.tables() == set()


class TestRollback:
    @pytest.mark.usefixtures("three")
    def test_everything_newest_first(self, run: Run, database: Database) -> None:
        run("apply")
        result = run("rollback")
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert [line.rsplit("  ", 1)[0] for line in lines[:3]] == [
            "rolled back 10_tenth",
            "rolled back 2_second",
            "rolled back 001_first",
        ]
        assert lines[3].startswith("Rolled back 3 migrations of ")
        assert lines[4] == "Next: flask db-migrate status"
        assert database.own_tables() == set()

    @pytest.mark.usefixtures("three")
    def test_keeps_the_target(self, run: Run, database: Database) -> None:
        run("apply")
        done = document(run("rollback", "--target", "2", "--format", "json"))
        assert [(e["version"], e["status"], e["applied_at"]) for e in done] == [("10", "rolled_back", None)]
        assert database.own_tables() == {"first", "second"}
        assert "nothing above 2 is applied" in run("rollback", "--target", "2").stdout
        assert document(run("rollback", "--target", "2", "--format", "json")) == []

    @pytest.mark.usefixtures("three")
    def test_a_number_of_steps_and_target_zero(self, run: Run, database: Database) -> None:
        run("apply")
        run("rollback", "--steps", "1")
        assert database.own_tables() == {"first", "second"}
        run("rollback", "--target", "0")
        assert database.own_tables() == set()
        assert run("rollback").stdout.startswith("Nothing to do: no migration is applied.\n")

    @pytest.mark.usefixtures("three")
    def test_dry_run_shows_the_rollback_parts(self, run: Run, database: Database) -> None:
        run("apply")
        result = run("rollback", "--dry-run", "--target", "001")
        assert result.exit_code == 0
        assert "-- would rollback 10_tenth" in result.stdout
        assert "drop table tenth" in result.stdout
        assert "create table tenth" not in result.stdout
        planned = document(run("rollback", "--dry-run", "--format", "json"))
        assert [e["status"] for e in planned] == ["would_rollback"] * 3
        assert database.own_tables() == {"first", "second", "tenth"}

    def test_stops_before_what_cannot_be_rolled_back(self, run: Run, write_script: Write, database: Database) -> None:
        write_script("001_a.sql", "create table a (id integer);")
        run("apply")
        result = run("rollback")
        assert result.exit_code == 1
        assert "001_a has no rollback part" in result.stderr
        assert database.own_tables() == {"a"}


class TestConfirmation:
    @pytest.fixture
    def applied(self, run: Run, three: None) -> Callable[[str], None]:
        return lambda environment: assert_ok(run("apply", DB_MIGRATE_ENVIRONMENT=environment))

    def test_one_migration_is_not_asked_about(self, run: Run, applied: Callable[[str], None]) -> None:
        applied("production")
        assert run("rollback", "--steps", "1", DB_MIGRATE_ENVIRONMENT="production").exit_code == 0

    def test_staging_without_a_terminal_needs_yes(self, run: Run, applied: Callable[[str], None]) -> None:
        applied("staging")
        result = run("rollback", "--target", "001", DB_MIGRATE_ENVIRONMENT="staging")
        assert result.exit_code == 2
        assert "`flask db-migrate rollback --target 001 --yes`" in result.stderr
        assert run("rollback", "--target", "001", "-y", DB_MIGRATE_ENVIRONMENT="staging").exit_code == 0

    def test_production_needs_its_name_beside_yes(
        self, run: Run, applied: Callable[[str], None], database: Database
    ) -> None:
        applied("production")
        config = {"DB_MIGRATE_ENVIRONMENT": "production"}
        bare = run("rollback", **config)
        assert bare.exit_code == 2
        assert "`flask db-migrate rollback --yes --env production`" in bare.stderr
        without_name = run("rollback", "--yes", "--format", "json", **config)
        assert without_name.exit_code == 2
        assert document(without_name)["error"]["type"] == "ConfirmationRequiredError"
        assert database.own_tables() == {"first", "second", "tenth"}
        assert run("rollback", "--yes", "--env", "production", **config).exit_code == 0
        assert database.own_tables() == set()

    @pytest.mark.usefixtures("three")
    def test_a_variable_of_the_environment_is_no_yes(
        self, run: Run, applied: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        applied("staging")
        monkeypatch.setenv("FLASK_DB_MIGRATE_ROLLBACK_YES", "1")
        monkeypatch.setenv("SOME_HOST_DB_MIGRATE_ROLLBACK_YES", "1")
        assert run("rollback", DB_MIGRATE_ENVIRONMENT="staging").exit_code == 2


def assert_ok(result: Result) -> None:
    """Fail with what the command said."""
    assert result.exit_code == 0, result.output


class TestInit:
    def test_creates_the_tables_once(self, run: Run, database: Database) -> None:
        result = run("init")
        assert result.exit_code == 0
        assert "now keeps track of its migrations; its environment is development." in result.stdout
        assert {"migrations", "migrations_journal"} <= database.tables()
        again = run("init", "--format", "json")
        assert document(again)["changed"] is False

    def test_moves_a_database_to_another_environment_with_a_reason(self, run: Run, write_script: Write) -> None:
        run("init")
        refused = run("init", "--env", "staging")
        assert refused.exit_code == 2
        assert "--reason" in refused.stderr
        write_script("001_a.sql", "create table a (id integer)")
        mismatch = run("apply", "--env", "staging")
        assert mismatch.exit_code == 2
        assert "development" in mismatch.stderr
        assert run("init", "--env", "staging", "--reason", "copied").exit_code == 0
        assert run("apply", "--env", "staging").exit_code == 0

    def test_a_reason_needs_an_environment(self, run: Run) -> None:
        result = run("init", "--reason", "why not")
        assert result.exit_code == 2
        assert "--env" in result.stderr


class TestNew:
    def test_writes_the_next_script(self, run: Run, scripts: Path) -> None:
        result = run("new", "create_things")
        assert result.exit_code == 0
        (path,) = scripts.iterdir()
        assert path.name in result.stdout.splitlines()[0]
        assert result.stdout.splitlines()[1].endswith("flask db-migrate apply --dry-run")
        told = document(run("new", "more", "--sql", "--format", "json"))
        assert told["script"].endswith(".sql")
        assert Path(told["script"]).is_file()

    def test_what_it_writes_can_run(self, run: Run) -> None:
        run("new", "one")
        run("new", "two", "--sql")
        assert_ok(run("apply"))


class TestUsage:
    @pytest.fixture
    def database(self, sqlite_database: Database) -> Database:
        """What is tested here never reaches a database, so one kind is enough."""
        return sqlite_database

    @pytest.mark.parametrize(
        "args",
        [
            ["apply", "--target", "1", "--steps", "1"],
            ["rollback", "--steps", "1", "--target", "1"],
            ["apply", "--check", "--dry-run"],
            ["apply", "--check", "--target", "1"],
            ["apply", "--steps", "0"],
            ["apply", "--steps", "two"],
            ["apply", "--nonsense"],
            ["status", "--format", "yaml"],
            ["new"],
            ["nonsense"],
        ],
    )
    def test_mistakes_are_usage_errors(self, run: Run, args: list[str]) -> None:
        result = run(*args)
        assert result.exit_code == 2
        assert "Error: " in result.stderr
        assert result.stdout == ""

    def test_as_json_too(self, run: Run) -> None:
        for form in (["--format", "json"], ["--format=json"]):
            result = run("apply", *form, "--target", "1", "--steps", "1")
            assert result.exit_code == 2
            assert "exclude each other" in document(result)["error"]["message"]

    def test_unknown_target(self, run: Run, three: None) -> None:
        result = run("apply", "--target", "11", "--format", "json")
        assert result.exit_code == 2
        assert "10" in document(result)["error"]["hint"]

    def test_unknown_environment(self, run: Run) -> None:
        result = run("status", "--env", "prodution")
        assert result.exit_code == 2
        assert "Unknown environment 'prodution'" in result.stderr
        assert "production" in result.stderr

    def test_help_of_every_command_has_an_example(self, run: Run) -> None:
        names = list(db_migrate.list_commands(None))  # type: ignore[arg-type]
        assert names[:5] == ["init", "status", "apply", "rollback", "new"]
        for name in names:
            result = run(name, "--help")
            assert result.exit_code == 0
            assert f"Example: flask db-migrate {name}" in result.stdout

    def test_help_of_the_group_lists_all(self, run: Run) -> None:
        text = run("--help").stdout
        for name in ("init", "status", "apply", "rollback", "new"):
            assert f"  {name}" in text


class TestErrorsBeforeADatabase:
    @pytest.fixture
    def database(self, sqlite_database: Database) -> Database:
        """What is tested here never reaches a database, so one kind is enough."""
        return sqlite_database

    def test_an_app_without_migrations(self) -> None:
        result = Flask("bare").test_cli_runner().invoke(db_migrate, ["status"])
        assert result.exit_code == 2
        assert "Migrations(db).init_app(app)" in result.stderr

    def test_an_unreachable_database_never_shows_its_password(self, make_app: MakeApp) -> None:
        url = "postgresql+psycopg2://bob:Canary-7@127.0.0.1:1/nowhere"
        for form in ("text", "json"):
            app = make_app(SQLALCHEMY_DATABASE_URI=url)
            result = app.test_cli_runner().invoke(args=["db-migrate", "--debug", "status", "--format", form])
            assert result.exit_code == 2
            assert "Canary-7" not in result.output
            assert "cannot be reached" in result.stderr

    def test_a_defect_is_one_sentence(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_args: object, **_kwargs: object) -> None:
            raise ValueError("boom at postgresql://bob:Canary-7@host/db")

        monkeypatch.setattr(Manager, "overview", fail)
        result = run("status")
        assert result.exit_code == 1
        assert result.stderr.startswith(
            "Error: unexpected error (a defect of this tool): ValueError: boom at postgresql://***@host/db\n"
        )
        assert "--debug" in result.stderr
        assert "Traceback" not in result.stderr
        told = document(run("status", "--format", "json"))
        assert told["error"]["type"] == "ValueError"
        debugged = run("--debug", "status")
        assert "Traceback" in debugged.stderr
        assert "Canary" not in debugged.output


class TestErrors:
    def test_a_busy_lock(self, run: Run, make_app: MakeApp, three: None) -> None:
        run("apply", "--target", "2")
        app = make_app(DB_MIGRATE_LOCK_WAIT=0.3)
        with app.app_context():
            runner = Manager.for_app(app).runner
            lock = runner.dialect.lock(
                runner.engine, runner.settings, actor="x", on_wait=lambda _holder: None, stop=threading.Event()
            )
            with lock:
                result = run("apply", "--format", "json")
        assert result.exit_code == 4
        assert document(result)["error"]["type"] == "LockBusyError"
        assert "Waiting for another migration run" in result.stderr

    def test_a_script_that_prints_does_not_spoil_json(self, run: Run, write_script: Write) -> None:
        write_script(
            "001_a.py",
            """
            print("at import")

            def apply(conn, environment):
                print("while it runs")
            """,
        )
        assert [e["version"] for e in document(run("apply", "--format", "json"))] == ["001"]

    def test_control_characters_of_names_are_spelled_out(self, run: Run, database: Database) -> None:
        run("init")
        escape = "chr(27)" if database.is_postgresql else "char(27)"
        database.execute(f"insert into migrations (version, name) values ('7', 'x' || {escape} || '[2J')")
        result = run("status")
        assert "\x1b" not in result.stdout
        assert "x\\x1b[2J" in result.stdout

    def test_the_environment_variable_is_put_back(self, run: Run, three: None) -> None:
        assert_ok(run("status", "--env", "testing"))
        assert "DB_MIGRATE_ENVIRONMENT" not in os.environ
