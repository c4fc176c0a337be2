"""What a folder's names say: migrations in order, and a word on everything that only looks like one."""

# ruff: noqa: RUF001 - names in other scripts are what some of this is about

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cryoprotect.migrations_ext.discovery import scan, unnumbered
from cryoprotect.migrations_ext.discovery.names import BadName, Role, ScriptName, file_label, parse, shown, slug
from cryoprotect.migrations_ext.errors import DirectoryError
from cryoprotect.migrations_ext.model import Kind, Problem

WriteScript = Callable[[str, str], Path]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")


def versions(folder: Path) -> list[str]:
    return [m.version for m in scan(folder).migrations]


def only_problem(folder: Path) -> Problem:
    (problem,) = scan(folder).problems
    assert problem.hint
    return problem


@pytest.mark.parametrize(
    ("file", "version", "name"),
    [
        ("001_initial_schema.py", "001", "initial_schema"),
        ("1_init.sql", "1", "init"),
        ("000_zero.sql", "000", "zero"),
        ("000001_init.sql", "000001", "init"),
        ("003_2024_backfill.sql", "003", "2024_backfill"),
        ("20190101000000_x.sql", "20190101000000", "x"),
        ("1528395834_unix_time.sql", "1528395834", "unix_time"),
        ("1550925483858_milliseconds.sql", "1550925483858", "milliseconds"),
        ("20240105_add.sql", "20240105", "add"),
        ("20240105_1234_add.sql", "202401051234", "add"),
        ("20240105_123456_add.sql", "20240105123456", "add"),
        ("20240105-1234_add.sql", "202401051234", "add"),
        ("20240105_00001_add.sql", "2024010500001", "add"),
        ("20240105_123_add.sql", "20240105", "123_add"),
        ("20240105_1234567_add.sql", "20240105", "1234567_add"),
        ("20240105123000_1234_add.sql", "20240105123000", "1234_add"),
        ("2024-01-05_add.sql", "20240105", "add"),
        ("2024-01-05_1230_add.sql", "202401051230", "add"),
        ("2024-01-05-123000_add.sql", "20240105123000", "add"),
        ("20241305_1234_no_such_month.sql", "20241305", "1234_no_such_month"),
        ("20240132_1234_no_such_day.sql", "20240132", "1234_no_such_day"),
        ("99991231_1234_no_such_year.sql", "99991231", "1234_no_such_year"),
        ("001__double.sql", "001", "_double"),
        ("001_mit-Strich.sql", "001", "mit-Strich"),
        ("001_größe_ändern.sql", "001", "größe_ändern"),
        ("001_добавить.sql", "001", "добавить"),
        ("001_追加.py", "001", "追加"),
        ("001_उपयोगकर्ता.sql", "001", "उपयोगकर्ता"),
        ("001_می\u200cخواهم.sql", "001", "می\u200cخواهم"),
        ("001_UPPER.SQL", "001", "UPPER"),
        ("001_up.sql", "001", "up"),
    ],
)
def test_number_and_name(file: str, version: str, name: str) -> None:
    found = parse(file, is_folder=False)
    assert isinstance(found, ScriptName)
    assert (found.version, found.number, found.name) == (version, int(version), name)


@pytest.mark.parametrize(
    ("file", "role"),
    [
        ("001_x.py", Role.PYTHON),
        ("001_x.sql", Role.SQL),
        ("001_x.up.sql", Role.APPLY_HALF),
        ("001_x.DOWN.sql", Role.ROLLBACK_HALF),
    ],
)
def test_kind_by_ending(file: str, role: Role) -> None:
    found = parse(file, is_folder=False)
    assert isinstance(found, ScriptName)
    assert (found.role, found.name) == (role, "x")


@pytest.mark.parametrize(
    "file",
    [
        "README.md", "__init__.py", "__main__.py", ".gitkeep", ".hidden.sql", "._001_x.sql", ".#001_x.sql", "#1_x.sql#",
        "001_x.sql~", "001_x.sql.swp", "001_x.sql.bak", "001_x.sql.orig", "001_x.sql.rej", "001_x.cpython-311.pyc",
        "helpers.py", "conftest.py", "env.py", "005_data.csv", "005_data.json", "005_notes.md", "notes.txt", "LICENSE",
        "alembic.ini", "metadata.yaml", "",
    ],
)  # fmt: skip
def test_plainly_no_script(file: str) -> None:
    assert parse(file, is_folder=False) is None


@pytest.mark.parametrize("folder", ["archive", "__pycache__", ".git", "helpers", "schema.sql"])
def test_plainly_no_migration_folder(folder: str) -> None:
    assert parse(folder, is_folder=True) is None


@pytest.mark.parametrize(
    ("file", "says", "cure", "number", "blocking"),
    [
        ("schema.sql", "no number", "001_schema.sql", None, False),
        ("V1__init.sql", "no number", "001_v1_init.sql", None, False),
        ("_001_x.sql", "no number", "001_", None, False),
        ("٠٠١_x.sql", "no number", "001_", None, False),
        ("001.sql", "a number and no name", "001_<name>.sql", 1, True),
        ("001_.up.sql", "a number and no name", "001_<name>.up.sql", 1, True),
        ("20240105_1230.sql", "a number and no name", "20240105_1230_<name>.sql", 202401051230, True),
        ("001-add.sql", "no `_`", "001_add.sql", None, True),
        ("2024-13-05_x.sql", "no `_`", "2024_13-05_x.sql", None, True),
        ("1975ea83b712_create.py", "no `_`", "1975_ea83b712_create.py", None, True),
        ("001_add users.sql", "a space (U+0020)", "001_add_users.sql", 1, True),
        ("001_x (copy).sql", "a space", "001_x_copy.sql", 1, True),
        ("001_v1.2.sql", "'.' (U+002E)", "001_v1_2.sql", 1, True),
        ("001_🎉.sql", "U+1F389", "001_<name>.sql", 1, True),
        ("001_a\nb.sql", "an invisible character (U+000A)", "001_a_b.sql", 1, True),
        ("001_a\x1b[31m.sql", "an invisible character (U+001B)", "001_a_31m.sql", 1, True),
        ("001_a\u202eb.sql", "an invisible character (U+202E)", "001_a_b.sql", 1, True),
        ("001_\udcff.sql", "an invisible character (U+DCFF)", "001_<name>.sql", 1, True),
        ("1" * 51 + "_x.sql", "a number of 51 characters", "Rename", None, True),
        ("001_" + "x" * 256 + ".sql", "a name of 256 characters", "Rename", 1, True),
        ("004_x.txt", "ends as none", ".py or .sql", 4, False),
        ("004_x", "ends as none", ".py or .sql", 4, False),
        ("004_x.sql.gz", "ends as none", ".py or .sql", 4, False),
        ("004_x.pgsql", "ends as none", ".py or .sql", 4, False),
    ],
)
def test_looks_like_a_script(file: str, says: str, cure: str, number: int | None, blocking: bool) -> None:
    found = parse(file, is_folder=False)
    assert isinstance(found, BadName)
    assert says in found.message
    assert cure in found.hint
    assert (found.number, found.blocking) == (number, blocking)
    assert (found.message + found.hint).isprintable()


def test_what_is_not_printable_is_shown_as_an_escape() -> None:
    assert shown("a\x1b[31m\udcff\n") == "a\\x1b[31m\\udcff\\n"
    assert shown(Path("größe")) == "größe"
    assert file_label(Path("x/001_a/up.sql")) == "001_a/up.sql"
    assert file_label(Path("x/001_a.up.sql")) == "001_a.up.sql"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Add Users", "add_users"),
        ("  größe: ändern!  ", "größe_ändern"),
        ("cafe\u0301", "café"),
        ("a__b--c", "a_b--c"),
        ("../../etc/passwd", "etc_passwd"),
        ("…", ""),
    ],
)
def test_slug(text: str, expected: str) -> None:
    assert slug(text) == expected


def test_an_empty_folder(scripts: Path) -> None:
    found = scan(scripts)
    assert (found.path, found.migrations, found.problems) == (scripts, (), ())


def test_order_is_by_number_and_not_by_text(scripts: Path) -> None:
    touch(scripts, "10_c.sql", "9_b.sql", "002_a.py", "20240105_d.sql")
    assert versions(scripts) == ["002", "9", "10", "20240105"]


def test_every_kind_side_by_side(scripts: Path) -> None:
    touch(
        scripts,
        "001_python.py",
        "002_one_file.sql",
        "003_pair.up.sql",
        "3_another_name.down.sql",
        "004_irreversible.up.sql",
        "005_folder/up.sql",
        "005_folder/down.sql",
        "005_folder/metadata.yaml",
        "006_folder/up.sql",
        "README.md",
        "helpers.py",
        "__pycache__/001_python.cpython-311.pyc",
    )
    found = scan(scripts)
    assert found.problems == ()
    assert [
        (m.label, m.kind, m.apply_path.relative_to(scripts), m.rollback_path and m.rollback_path.relative_to(scripts))
        for m in found.migrations
    ] == [
        ("001_python", Kind.PYTHON, Path("001_python.py"), None),
        ("002_one_file", Kind.SQL, Path("002_one_file.sql"), None),
        ("003_pair", Kind.SQL, Path("003_pair.up.sql"), Path("3_another_name.down.sql")),
        ("004_irreversible", Kind.SQL, Path("004_irreversible.up.sql"), None),
        ("005_folder", Kind.SQL, Path("005_folder/up.sql"), Path("005_folder/down.sql")),
        ("006_folder", Kind.SQL, Path("006_folder/up.sql"), None),
    ]


@pytest.mark.parametrize(
    "files",
    [
        ("001_a.sql", "1_b.sql"),
        ("001_a.sql", "001_a.py"),
        ("001_a.sql", "001_b/up.sql"),
        ("001_a.up.sql", "001_b.up.sql"),
        ("001_a.up.sql", "001_a.down.sql", "001_b.down.sql"),
        ("001_a/up.sql", "001_a.down.sql"),
        ("20240105_1234_a.sql", "202401051234_b.sql"),
        ("9_a.py", "09_b.py", "009_c.py"),
    ],
)
def test_a_clash_names_every_file_and_lets_none_run(scripts: Path, files: tuple[str, ...]) -> None:
    touch(scripts, "5000_other.sql", *files)
    assert versions(scripts) == ["5000"]
    problem = only_problem(scripts)
    assert problem.blocking
    assert problem.number is not None
    assert len(problem.paths) == len(files)
    assert all(file in problem.message for file in files)


def test_a_one_file_script_beside_a_rollback_half_is_told_how_to_become_a_pair(scripts: Path) -> None:
    touch(scripts, "001_a.sql", "001_a.down.sql")
    problem = only_problem(scripts)
    assert problem.blocking
    assert "001_a.up.sql" in problem.hint


@pytest.mark.parametrize("file", ["007_a.down.sql", "007_a/down.sql"])
def test_half_a_pair_is_mentioned_and_stops_nothing(scripts: Path, file: str) -> None:
    touch(scripts, "001_a.sql", file)
    assert versions(scripts) == ["001"]
    problem = only_problem(scripts)
    assert (problem.number, problem.blocking) == (7, False)
    assert "up.sql" in problem.message


@pytest.mark.parametrize("folder", ["001_x.sql", "001_x.py", "001_x.up.sql"])
def test_a_folder_named_like_a_file(scripts: Path, folder: str) -> None:
    touch(scripts, f"{folder}/up.sql")
    assert versions(scripts) == []
    problem = only_problem(scripts)
    assert (problem.blocking, problem.number) == (True, 1)
    assert f"{folder} is a folder" in problem.message


def test_a_numbered_folder_without_parts_is_mentioned(scripts: Path) -> None:
    touch(scripts, "20210101_init/migration.sql")
    problem = only_problem(scripts)
    assert not problem.blocking
    assert "neither up.sql nor down.sql" in problem.message


def test_a_misnamed_folder_counts_only_where_it_holds_parts(scripts: Path) -> None:
    touch(scripts, "2024/notes.md", "3d models/x.obj", "001-add/up.sql")
    problem = only_problem(scripts)
    assert "001-add has no `_`" in problem.message
    assert problem.blocking


def test_links_inside_the_folder_are_followed(scripts: Path) -> None:
    touch(scripts, "001_a.sql", "..data/002_b.sql", "..data/003_c/up.sql")
    (scripts / "002_b.sql").symlink_to("..data/002_b.sql")
    (scripts / "003_c").symlink_to("..data/003_c")
    assert versions(scripts) == ["001", "002", "003"]
    assert scan(scripts).problems == ()


def test_the_folder_itself_may_be_a_link(scripts: Path, tmp_path: Path) -> None:
    touch(scripts, "001_a.sql")
    (scripts / "002_b.sql").symlink_to(scripts / "001_a.sql")
    link = tmp_path / "link"
    link.symlink_to(scripts)
    assert versions(link) == ["001", "002"]
    assert scan(link).migrations[0].apply_path == link / "001_a.sql"


@pytest.mark.parametrize("kind", ["dangling", "circle", "outward", "outward folder", "outward part", "same prefix"])
def test_links_that_cannot_be_followed(scripts: Path, tmp_path: Path, kind: str) -> None:
    touch(tmp_path, "outside/up.sql", "outside/x.sql", "migration_scripts_more/x.sql")
    link = scripts / "002_b.sql"
    match kind:
        case "dangling":
            link.symlink_to("nowhere.sql")
        case "circle":
            link.symlink_to(link)
        case "outward":
            link.symlink_to(tmp_path / "outside/x.sql")
        case "outward folder":
            (scripts / "002_b").symlink_to(tmp_path / "outside")
        case "outward part":
            (scripts / "002_b").mkdir()
            (scripts / "002_b/up.sql").symlink_to(tmp_path / "outside/up.sql")
        case _:
            link.symlink_to(tmp_path / "migration_scripts_more/x.sql")
    touch(scripts, "001_a.sql")
    assert versions(scripts) == ["001"]
    problem = only_problem(scripts)
    assert (problem.number, problem.blocking) == (2, True)
    assert problem.message.startswith("002_b")


def test_a_pipe_is_never_opened(scripts: Path) -> None:
    os.mkfifo(scripts / "001_pipe.sql")
    assert "no regular file" in only_problem(scripts).message


def test_an_undecodable_name_is_a_problem_that_can_be_printed(scripts: Path) -> None:
    try:
        (scripts / os.fsdecode(b"001_\xff.sql")).write_text("")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    problem = only_problem(scripts)
    assert "001_\\udcff.sql" in problem.message


@pytest.mark.parametrize("kind", ["missing", "file", "nul", "too long"])
def test_no_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    path = {"missing": "nowhere", "file": "file", "nul": "a\0b", "too long": "x" * 300}[kind]
    with pytest.raises(DirectoryError) as caught:
        scan(tmp_path / path)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert "DB_MIGRATE_DIRECTORY or --dir" in caught.value.hint
    if kind == "missing":
        assert "flask db-migrate init" in caught.value.hint


def test_paths_outlive_a_change_of_the_working_directory(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(scripts, "001_a.sql")
    monkeypatch.chdir(scripts.parent)
    (migration,) = scan(Path(scripts.name)).migrations
    monkeypatch.chdir("/")
    assert migration.apply_path.exists()


def test_a_forgotten_number_of_a_python_script(write_script: WriteScript, scripts: Path) -> None:
    write_script("add_users.py", "def apply(conn, environment): ...")
    write_script("helpers.py", "def make(): ...")
    write_script("broken.py", "def apply(")
    write_script("001_a.py", "def apply(conn, environment): ...")
    assert scan(scripts).problems == ()
    (problem,) = unnumbered(scripts)
    assert "add_users.py defines `apply` and has no number" in problem.message
    assert not problem.blocking


def test_scanning_opens_no_file_and_importing_needs_no_database(scripts: Path) -> None:
    touch(scripts, "001_a.sql", "002_b.py", "003_c.up.sql", "003_c.down.sql", "004_d/up.sql", "helpers.py", "b.sql")
    program = f"""
import sys
from pathlib import Path
from cryoprotect.migrations_ext.discovery import scan
opened, scanned = [], []
def hook(event, args):
    if event == "open":
        opened.append(args[0])
    elif event == "os.scandir":
        scanned.append(args[0])
sys.addaudithook(hook)
found = scan(Path({str(scripts)!r}))
assert len(found.migrations) == 4, found
assert opened == [], opened
assert [str(s) for s in scanned] == [{str(scripts)!r}, {str(scripts / "004_d")!r}], scanned
heavy = {{"sqlalchemy", "flask", "rich", "click", "alembic", "psycopg2", "sqlite3"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent.parent)


def test_five_thousand_names(scripts: Path) -> None:
    touch(scripts, *(f"{i}_create_table.sql" for i in range(5000)))
    assert versions(scripts) == [str(i) for i in range(5000)]


def test_the_counter_that_diesel_writes_is_no_part_of_the_number(scripts: Path) -> None:
    for name in ("2026-07-27-143313-0000_new_style", "2026-08-01-000000_old_style"):
        (scripts / name).mkdir()
        (scripts / name / "up.sql").write_text("select 1;\n", encoding="utf-8")
    found = scan(scripts)
    assert [(m.version, m.name) for m in found.migrations] == [
        ("20260727143313", "new_style"),
        ("20260801000000", "old_style"),
    ]
    assert found.problems == ()
