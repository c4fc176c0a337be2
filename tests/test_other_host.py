"""A Flask app of another shape uses the extension as its own: nothing in it knows of our host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from .conftest import ROOT, Database

HOSTS = ROOT / "tests" / "hosts"


@pytest.fixture
def environment(postgres_database: Database, tmp_path: Path) -> dict[str, str]:
    dsn = sa.make_url(postgres_database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HOSTS), str(ROOT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WAREHOUSE_DSN": dsn,
        "FLASK_APP": "shop",
        "FLASK_DB_MIGRATE_BIND": "warehouse",
        "FLASK_DB_MIGRATE_DIRECTORY": "shop/changes",
        "FLASK_DB_MIGRATE_TABLE": "changes_made",
        "FLASK_DB_MIGRATE_URL_PREFIX": "/admin/changes",
        "FLASK_DB_MIGRATE_ENVIRONMENTS": '["demo"]',
    }


def flask(environment: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_whole_job_over_a_bind_behind_a_creator(
    environment: dict[str, str], postgres_database: Database, tmp_path: Path
) -> None:
    def run(*words: str) -> Any:
        done = flask(environment, tmp_path, "db-migrate", *words, "--format", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    assert [r["status"] for r in run("apply", "--env", "demo")] == ["applied", "applied"]
    assert postgres_database.query("select name from stock.items order by id") == [("50% off: a",), ("b",)]
    assert postgres_database.query("select place from stock.shelves") == [("demo",)]
    assert postgres_database.query("select count(*) from stock.changes_made") == [(2,)]
    assert postgres_database.query("select count(*) from pg_tables where schemaname = 'public'") == [(0,)]
    assert [r["status"] for r in run("rollback", "--env", "demo", "--yes")] == ["rolled_back", "rolled_back"]


def test_the_two_admin_pages_live_beside_each_other(environment: dict[str, str], tmp_path: Path) -> None:
    program = (
        "from shop import app\n"
        "client = app.test_client()\n"
        "print(client.get('/admin/').text)\n"
        "print(client.get('/admin/changes/health').status_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**environment, "DB_MIGRATE_ENVIRONMENT": "demo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the shop's own admin", "503"]


def test_routes_of_the_host_stay_its_own(environment: dict[str, str], tmp_path: Path) -> None:
    done = flask(environment, tmp_path, "routes")
    assert done.returncode == 0, done.stderr
    assert "admin.index" in done.stdout
    assert "db_migrate.overview" in done.stdout


def test_a_database_that_no_url_names_is_named_all_the_same(
    environment: dict[str, str], postgres_database: Database, tmp_path: Path
) -> None:
    name = sa.make_url(postgres_database.url).database
    assert f"Applied 2 migrations to {name} " in flask(environment, tmp_path, "db-migrate", "apply").stdout
    assert f"Database postgresql:///{name}," in flask(environment, tmp_path, "db-migrate", "status").stdout
