"""`validate`, `history`, `new --pair` and the folder that `init` makes, as a person uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from .conftest import Database

Write = Callable[[str, str], Path]
Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    def invoke(*words: str) -> Result:
        return app.test_cli_runner().invoke(args=["db-migrate", *words])

    return invoke


def findings(run: Run, *words: str) -> list[tuple[str, str, str | None, int | None]]:
    document: Any = json.loads(run("validate", "--format", "json", *words).stdout)
    return [
        (f["rule"], f["level"], f["file"] and Path(f["file"]).name, f["line"])
        for f in document["findings"]
        if f["hint"] and f["message"]
    ]


def test_a_clean_directory_is_in_order(run: Run, write_script: Write) -> None:
    write_script("001_a.sql", "-- migrate:up\ncreate table a (id integer);\n-- migrate:down\ndrop table a;\n")
    result = run("validate")
    assert (result.exit_code, result.stdout) == (0, "Everything is in order.\n")


def test_every_problem_is_told_at_once_with_its_place(run: Run, write_script: Write, database: Database) -> None:
    write_script("001_a.sql", "create table a (id integer);\n")
    assert run("apply").exit_code == 0
    write_script("001_a.sql", "create table a (id integer, name text);\n")
    write_script("002_b.py", "import os\n\nasync def apply(conn, environment):\n    pass\n")
    write_script("003_c.sql", "create table c (id integer);\ncommit;\ndrop table c;\n")
    write_script("004_d.sql", "-- nothing yet\n")
    write_script("005_e.sql", "select 1;\n")
    write_script("5_f.sql", "select 1;\n")
    write_script("nonumber.sql", "select 1;\n")
    before = database.tables()
    result = run("validate")
    assert result.exit_code == 5
    assert "Traceback" not in result.output
    found = findings(run)
    assert ("script", "error", "003_c.sql", 2) in found
    assert ("empty", "warning", "004_d.sql", 1) in found
    assert ("edited", "warning", "001_a.sql", None) in found
    assert ("no-rollback", "info", "001_a.sql", None) in found
    files = {(name, level) for rule, level, name, _ in found if rule == "file"}
    assert ("002_b.py", "error") in files
    assert any(name in ("005_e.sql", "5_f.sql") and level == "error" for name, level in files)
    assert database.tables() == before


def test_an_unreachable_database_is_one_finding_among_the_others(make_app: Any, write_script: Write) -> None:
    write_script("001_a.py", "def apply(conn:\n")
    app = make_app(DB_MIGRATE_DATABASE_URL="postgresql://someone:canary-secret@127.0.0.1:1/nowhere")
    result = app.test_cli_runner().invoke(args=["db-migrate", "validate"])
    assert result.exit_code == 5
    assert "cannot be reached" in result.output
    assert "001_a.py" in result.output
    assert "canary-secret" not in result.output


def test_history_tells_attempts_newest_first_with_what_failed(run: Run, write_script: Write) -> None:
    assert run("history").stdout == "No attempt is recorded.\n"
    write_script("001_a.sql", "-- migrate:up\ncreate table a (id integer);\n-- migrate:down\ndrop table a;\n")
    write_script("002_b.sql", "create table b (id integer);\ninsert into nowhere values (1);\n")
    assert run("apply").exit_code == 1
    assert run("rollback").exit_code == 0
    entries: Any = json.loads(run("history", "--format", "json").stdout)
    assert [(e["what"], e["outcome"]) for e in entries] == [("rollback", "succeeded"), ("apply", "failed")]
    steps = entries[1]["steps"]
    assert [(s["version"], s["outcome"]) for s in steps] == [("001", "applied"), ("002", "failed")]
    assert steps[1]["statement"] == 2
    assert "nowhere" in steps[1]["error"]
    assert entries[1]["host"]
    assert entries[1]["source"] == "cli"
    text = run("history", "--failed").stdout
    assert "failed 002_b  statement 2:" in text
    assert "rollback" not in text
    only: Any = json.loads(run("history", "--version", "1", "--limit", "1", "--format", "json").stdout)
    assert [e["what"] for e in only] == ["rollback"]
    assert run("history", "--version", "77").exit_code == 2


def test_history_keeps_the_reason_of_a_changed_environment(run: Run, write_script: Write) -> None:
    write_script("001_a.sql", "create table a (id integer);\n")
    run("apply")
    assert run("init", "--env", "staging", "--reason", "a copy").exit_code == 0
    assert "reason: a copy" in run("history").stdout


def test_new_pair_writes_two_files_that_are_one_migration(run: Run, scripts: Path) -> None:
    result = run("new", "add storage", "--sql", "--pair")
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in scripts.iterdir()) == ["001_add_storage.down.sql", "001_add_storage.up.sql"]
    assert run("new", "other", "--pair").exit_code == 2


def test_init_makes_the_folder_with_a_page_in_it(make_app: Any, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "scripts"
    app = make_app(DB_MIGRATE_DIRECTORY=str(folder))
    runner = app.test_cli_runner()
    result = runner.invoke(args=["db-migrate", "init"])
    assert result.exit_code == 0, result.output
    assert "db-migrate new" in (folder / "README.md").read_text(encoding="utf-8")
    assert runner.invoke(args=["db-migrate", "validate"]).stdout == "Everything is in order.\n"
    result = runner.invoke(args=["db-migrate", "init", "--format", "json"])
    assert json.loads(result.stdout)["directory_made"] is False


def test_what_to_type_next_names_the_environment_that_was_typed(run: Run, write_script: Write) -> None:
    write_script("001_a.sql", "create table a (id integer);\n")
    assert run("status", "--env", "staging").stdout.endswith("Next: flask db-migrate apply --env staging\n")
    assert "Next: flask db-migrate apply --env staging" in run("apply", "--dry-run", "--env", "staging").stdout
