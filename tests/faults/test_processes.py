"""Two runners, kills and signals, made for real: afterwards a plain `apply` ends as an undisturbed one would."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import pytest

from .conftest import Site


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_processes_that_start_at_once_do_everything_once(site: Site) -> None:
    site.write_traces(5, pause=0.05)
    processes = [site.start("apply") for _ in range(4)]
    for process in processes:
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, out + err
    assert site.traces() == [1, 2, 3, 4, 5]
    assert site.recorded() == [1, 2, 3, 4, 5]


def test_who_waits_says_for_whom(site: Site) -> None:
    go_on = site.folder / "go-on"
    (site.scripts / "001_slow.py").write_text(
        "import pathlib, time\n"
        "def apply(conn, environment):\n"
        "    conn.sql('create table slow (id integer)').execute()\n"
        f"    while not pathlib.Path({str(go_on)!r}).exists():\n"
        "        time.sleep(0.05)\n",
        encoding="utf-8",
    )
    first = site.start("apply")
    wait_until(lambda: _holder(site))
    second = site.start("apply")
    assert second.stderr is not None
    assert f"process {first.pid}" in second.stderr.readline()
    go_on.touch()
    assert first.wait(60) == 0
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "Nothing to do" in out


def _holder(site: Site) -> bool:
    if site.database.is_postgresql:
        query = "select 1 from pg_locks where locktype = 'advisory' and granted and objsubid = 2"
        return bool(site.database.query(query))
    lock = site.folder.parent / "test.sqlite.migrate-lock"
    return lock.is_file() and bool(lock.read_text())


def test_lock_wait_over_is_exit_code_4(site: Site) -> None:
    site.write_traces(1, pause=4)
    app = site.folder / "app.py"
    app.write_text(app.read_text().replace("db = ", 'app.config["DB_MIGRATE_LOCK_WAIT"] = 0.3\ndb = '))
    first = site.start("apply")
    wait_until(lambda: _holder(site))
    second = site.run("apply")
    assert second.returncode == 4, second.stdout + second.stderr
    assert "Traceback" not in second.stderr
    assert first.wait(60) == 0


@pytest.mark.parametrize("direction", ["apply", "rollback"])
def test_kill_at_any_instant_loses_and_doubles_nothing(site: Site, direction: str) -> None:
    count = 6
    site.write_traces(count, pause=0.1)
    if direction == "rollback":
        assert site.run("apply").returncode == 0
    chance = random.Random(f"{direction} {site.database.kind}")
    for _ in range(3):
        process = site.start(direction)
        wait_until(lambda p=process: _holder(site) or p.poll() is not None)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        process.communicate()
        wait_until(lambda: site.traces() == sorted(site.recorded()))
    last = site.run(direction)
    assert last.returncode == 0, last.stdout + last.stderr
    expected = list(range(1, count + 1)) if direction == "apply" else []
    assert site.traces() == expected
    assert site.recorded() == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_a_long_statement_rolls_back_and_ends_soon(site: Site, number: signal.Signals, code: int) -> None:
    slow = (
        "select pg_sleep(60)"
        if site.database.is_postgresql
        else "with recursive n(i) as (select 1 union all select i + 1 from n where i < 9000000000) select max(i) from n"
    )
    (site.scripts / "001_slow.sql").write_text(f"create table slow (id integer);\n{slow};\n", encoding="utf-8")
    process = site.start("apply")
    wait_until(lambda: _holder(site))
    time.sleep(0.7)
    sent = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - sent < 10
    assert process.returncode == code, out + err
    assert "rolled back" in err
    assert "Traceback" not in err
    assert site.database.own_tables() == set()
    (site.scripts / "001_slow.sql").write_text("create table slow (id integer);\n", encoding="utf-8")
    assert site.run("apply").returncode == 0


def test_a_failing_second_statement_is_mended_and_goes_on(site: Site) -> None:
    site.write_traces(2)
    bad = site.scripts / "003_bad.sql"
    bad.write_text("create table x (id integer);\ninsert into nowhere values (1);\n", encoding="utf-8")
    failed = site.run("apply")
    assert failed.returncode == 1
    assert "003_bad.sql, line 2" in failed.stderr
    assert "Statement: 2 of 2" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert site.traces() == [1, 2]
    assert "x" not in site.database.tables()
    bad.write_text("create table x (id integer);\n", encoding="utf-8")
    assert site.run("apply").returncode == 0
    assert site.recorded() == [1, 2, 3]
