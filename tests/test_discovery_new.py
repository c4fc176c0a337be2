"""A new script is the next one in the folder's own style, reads back as it was meant, and replaces nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cryoprotect.migrations_ext.discovery import load, loaded_function, read, scan, texts, write_new
from cryoprotect.migrations_ext.discovery.new import next_prefix
from cryoprotect.migrations_ext.errors import ConfigurationError, DirectoryError
from cryoprotect.migrations_ext.model import Direction, Kind

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "001"),
        (["001"], "002"),
        (["1"], "2"),
        (["9"], "10"),
        (["009", "010"], "011"),
        (["1", "2", "10"], "11"),
        (["999"], "1000"),
        (["000009", "7"], "000010"),
        (["00000000000000"], "00000000000001"),
        (["1528395834"], "1528395835"),
        # dated: the time now, written as the highest is
        (["001", "20230101000000"], "20240506070809"),
        (["202301010000"], "202405060708"),
        (["20230101"], "20240506"),
        (["2023-01-01"], "2024-05-06"),
        (["2023-01-01-000000"], "2024-05-06-070809"),
        (["20230101_0000"], "20240506_0708"),
        (["2023-01-01_000000"], "2024-05-06_070809"),
        # the second of a day goes on with the time of day
        (["20240506"], "20240506_070809"),
        (["2024-05-06"], "2024-05-06_070809"),
        # never below or beside what is there: clocks differ
        (["20240506070809"], "20240506070810"),
        (["20240506_0708"], "20240506_0709"),
        (["2024-12-31-235959"], "2025-01-01-000000"),
        (["20991231"], "20240506_070809"),
        # a date and a counter
        (["20240506_00009"], "20240506_00010"),
        (["20240506_9998"], "20240506_9999"),
        (["20240506079999"], "20240506080000"),
    ],
)
def test_next_number(taken: list[str], expected: str) -> None:
    assert next_prefix(taken, NOW) == expected


def written(scripts: Path, name: str, *, kind: Kind = Kind.PYTHON) -> Path:
    path = write_new(scripts, name, kind=kind)
    assert isinstance(path, Path)
    return path


def test_names(scripts: Path) -> None:
    assert written(scripts, "Add Users").name == "001_add_users.py"
    assert written(scripts, "größe ändern", kind=Kind.SQL).name == "002_größe_ändern.sql"
    assert written(scripts, "2024 backfill").name == "003_2024_backfill.py"
    assert written(scripts, "../x\n").name == "004_x.py"
    assert [m.number for m in scan(scripts).migrations] == [1, 2, 3, 4]
    assert scan(scripts).problems == ()


def test_what_cannot_run_takes_its_number_too(scripts: Path) -> None:
    for name in ("001_a.sql", "1_b.sql", "007_half.down.sql", "008_odd name.sql"):
        (scripts / name).write_text("")
    assert written(scripts, "next").name == "009_next.py"


def test_a_dated_folder(scripts: Path) -> None:
    (scripts / "20200101120000_first.sql").write_text("")
    assert re.fullmatch(r"20\d{12}_next\.sql", written(scripts, "next", kind=Kind.SQL).name)


def test_a_folder_of_folders(scripts: Path) -> None:
    (scripts / "041_a").mkdir()
    (scripts / "041_a" / "up.sql").write_text("")
    assert written(scripts, "next").name == "042_next.py"


def test_a_python_script_is_ready_to_edit(scripts: Path) -> None:
    written(scripts, "add users")
    (migration,) = scan(scripts).migrations
    migration = read(migration)
    assert migration.header is not None
    assert migration.header.reversible
    assert migration.header.description == "Add users."
    for direction in Direction:
        with loaded_function(load(migration, direction)) as function:
            assert function(None, "testing") is None


@pytest.mark.parametrize("pair", [False, True])
def test_an_sql_script_is_ready_to_edit(scripts: Path, pair: bool) -> None:
    paths = write_new(scripts, "add users", kind=Kind.SQL, pair=pair)
    names = [p.name for p in paths] if isinstance(paths, tuple) else paths.name
    assert names == (["001_add_users.up.sql", "001_add_users.down.sql"] if pair else "001_add_users.sql")
    (migration,) = scan(scripts).migrations
    migration = read(migration)
    assert migration.header is not None
    assert migration.header.reversible
    assert migration.header.description == "Add users."
    for text in texts(migration):
        assert text is not None
        assert all(line.startswith("--") for line in text.splitlines() if line)


@pytest.mark.parametrize(
    ("name", "says"),
    [("", "Nothing of ''"), ("…!", "Nothing of"), ("x" * 300, "too long"), ("ü" * 150, "too long")],
)
def test_what_is_no_name(scripts: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        write_new(scripts, name, kind=Kind.PYTHON)
    assert caught.value.hint
    assert list(scripts.iterdir()) == []


def test_a_name_that_would_be_taken_for_the_time_of_day(scripts: Path) -> None:
    (scripts / "20200101_first.sql").write_text("")
    with pytest.raises(ConfigurationError, match="number and name") as caught:
        write_new(scripts, "2024 backfill", kind=Kind.SQL)
    assert "Start the name with a letter" in str(caught.value.hint)


def test_only_sql_comes_in_pairs(scripts: Path) -> None:
    with pytest.raises(ConfigurationError, match="pair"):
        write_new(scripts, "x", kind=Kind.PYTHON, pair=True)


def test_nothing_is_replaced_and_no_half_is_left(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoprotect.migrations_ext.discovery.new.next_prefix", lambda taken, now: "001")
    (scripts / "001_x.down.sql").write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already"):
        write_new(scripts, "x", kind=Kind.SQL, pair=True)
    assert [(p.name, p.read_text()) for p in scripts.iterdir()] == [("001_x.down.sql", "mine")]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="is not there"):
        write_new(tmp_path / "nowhere", "x", kind=Kind.SQL)
