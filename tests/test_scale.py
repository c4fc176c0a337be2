"""Thousands of scripts, a script of many megabytes, a long history; `pytest -m soak` runs the full sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cryoprotect.migrations_ext import apply_migrations, get_migration_status, rollback_migrations
from cryoprotect.migrations_ext.api import Manager
from cryoprotect.migrations_ext.model import Source

from .conftest import Database

SIZES = [pytest.param(1, id="small"), pytest.param(25, id="full", marks=pytest.mark.soak)]


@pytest.mark.parametrize("size", SIZES)
def test_thousands_of_scripts(sqlite_database: Database, scripts: Path, size: int) -> None:
    count = 200 * size
    for number in range(1, count + 1):
        text = f"-- migrate:up\ncreate table t{number} (id integer);\n-- migrate:down\ndrop table t{number};\n"
        (scripts / f"{number:05}_t.sql").write_text(text, encoding="utf-8")
    assert len(apply_migrations(sqlite_database.url, migrations_dir=scripts)) == count
    assert apply_migrations(sqlite_database.url, migrations_dir=scripts) == []
    assert len(get_migration_status(sqlite_database.url, migrations_dir=scripts)) == count
    assert len(rollback_migrations(sqlite_database.url, migrations_dir=scripts)) == count
    assert sqlite_database.own_tables() == set()


@pytest.mark.parametrize("size", SIZES)
def test_a_script_of_many_megabytes(database: Database, scripts: Path, size: int) -> None:
    rows = 20_000 * size
    line = "insert into big values ({}, 'it''s 100% of what; there is -- no comment', '{{\"a\": true}}');\n"
    with (scripts / "001_big.sql").open("w", encoding="utf-8") as file:
        file.write("create table big (id integer, words text, document text);\n")
        file.writelines(line.format(number) for number in range(rows))
    [applied] = apply_migrations(database.url, migrations_dir=scripts)
    assert applied["status"] == "applied"
    assert database.query("select count(*), min(words) from big") == [
        (rows, "it's 100% of what; there is -- no comment")
    ]


@pytest.mark.parametrize("size", SIZES)
def test_a_long_history(make_app: Any, database: Database, scripts: Path, size: int) -> None:
    (scripts / "001_a.sql").write_text("-- migrate:up\nselect 1;\n-- migrate:down\nselect 1;\n", encoding="utf-8")
    apply_migrations(database.url, migrations_dir=scripts)
    columns = "run_id, sequence, event, version, direction, outcome, actor, host, pid, source, environment"
    runs = f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {1000 * size})"
    head = "'someone', 'somewhere', 1, 'cli', 'development' from n"
    events = (
        (1, "run_started", "null"),
        (2, "step_finished", "'applied'"),
        (3, "step_finished", "'rolled_back'"),
        (4, "run_finished", "'succeeded'"),
    )
    for sequence, event, outcome in events:
        database.execute(
            f"{runs} insert into migrations_journal ({columns})"
            f" select 'r' || i, {sequence}, '{event}', '001', 'apply', {outcome}, {head}"
        )
    app = make_app()
    with app.app_context():
        manager = Manager.for_app(app, source=Source.API)
        assert [entry.run_id for entry in manager.history(limit=2)] == [f"r{1000 * size}", f"r{1000 * size - 1}"]
        assert manager.overview().last_run is not None
    result = app.test_cli_runner().invoke(args=["db-migrate", "history", "--version", "1", "--format", "json"])
    assert len(json.loads(result.stdout)) == 20
