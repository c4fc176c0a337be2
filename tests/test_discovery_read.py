"""What files say without being run: parts, declarations, checksums; and what is wrong with them, by file and line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from cryoprotect.migrations_ext.discovery import check_environments, load, read, scan, texts
from cryoprotect.migrations_ext.errors import ScriptError
from cryoprotect.migrations_ext.model import Direction, Header, Migration

WriteScript = Callable[[str, str], Path]
APPLY = "def apply(conn, environment): ...\n"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def only(scripts: Path) -> Migration:
    found = scan(scripts)
    assert found.problems == ()
    return found.migrations[0]


def header(scripts: Path) -> Header:
    found = read(only(scripts)).header
    assert found is not None
    return found


def refusal(scripts: Path) -> ScriptError:
    with pytest.raises(ScriptError) as caught:
        read(only(scripts))
    error = caught.value
    assert error.hint
    assert error.version == "001"
    assert error.file is not None
    assert error.file.is_relative_to(scripts)
    assert error.message.startswith("001_")
    assert error.message.isprintable()
    assert error.line is None or f"line {error.line}" in error.message
    return error


# --- SQL: parts -------------------------------------------------------------------------------------------------------


def test_a_whole_file_is_the_apply_part(scripts: Path) -> None:
    (scripts / "001_a.sql").write_text("create table a (id int);\n\n  \n")
    found = header(scripts)
    assert found == Header(checksum=sha("create table a (id int);"), rollback_checksum=None, reversible=False)
    assert texts(only(scripts)) == ("create table a (id int);\n\n  \n", None)


@pytest.mark.parametrize(
    "text",
    [
        "-- migrate:up\ncreate a;\n-- migrate:down\ndrop a;\n",
        "-- a word\n\n/* and\n-- another */\n-- migrate:up\ncreate a;\n-- migrate:down\ndrop a;\n",
        "--migrate:up\r\ncreate a;\r\n-- Migrate: Down\r\ndrop a;\r\n",
        "  -- MIGRATE:UP  \ncreate a;\n\n\n  --\tmigrate : down\t\ndrop a;",
    ],
)
def test_markers_cut_one_file_into_two_parts(scripts: Path, text: str) -> None:
    (scripts / "001_a.sql").write_bytes(text.encode())
    found = header(scripts)
    assert found.reversible
    assert (found.checksum, found.rollback_checksum) == (sha("create a;"), sha("drop a;"))
    apply, rollback = texts(only(scripts))
    assert apply.strip() == "create a;"
    assert rollback is not None
    assert rollback.strip() == "drop a;"
    for direction, statement in ((Direction.APPLY, "create a;"), (Direction.ROLLBACK, "drop a;")):
        script = load(only(scripts), direction)
        line = script.first_line + script.text.split("\n").index(
            next(i for i in script.text.split("\n") if i.strip() == statement)
        )
        assert text.split("\n")[line - 1].strip() == statement


def test_a_file_that_ends_with_its_marker(write_script: WriteScript, scripts: Path) -> None:
    (scripts / "001_a.sql").write_text("-- migrate:up\n-- migrate:down")
    found = header(scripts)
    assert found.reversible
    assert found.checksum == found.rollback_checksum == sha("")
    assert load(only(scripts), Direction.ROLLBACK).text == ""


def test_an_empty_file_is_an_empty_apply_part(scripts: Path) -> None:
    (scripts / "001_a.sql").write_text("")
    assert header(scripts).checksum == sha("")


def test_marker_words_inside_a_line_are_text(write_script: WriteScript, scripts: Path) -> None:
    text = "insert into notes values ('-- migrate:down');\n-- Migrate: what was there before\n"
    write_script("001_a.sql", text)
    assert texts(only(scripts)) == (text, None)


@pytest.mark.parametrize("names", [("001_a.up.sql", "1_b.down.sql"), ("001_a/up.sql", "001_a/down.sql")])
def test_two_files(write_script: WriteScript, scripts: Path, names: tuple[str, str]) -> None:
    write_script(names[0], "create a;\n")
    write_script(names[1], "drop a;\n")
    found = header(scripts)
    assert (found.checksum, found.rollback_checksum) == (sha("create a;"), sha("drop a;"))
    assert texts(only(scripts)) == ("create a;\n", "drop a;\n")
    script = load(only(scripts), Direction.ROLLBACK)
    assert (script.path, script.text, script.first_line) == (scripts / names[1], "drop a;\n", 1)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("create a;\n-- migrate:up\ncreate b;", 1, "SQL stands before"),
        ("-- x\n\n  select 1;\n-- migrate:down\n", 3, "SQL stands before"),
        ("-- migrate:down\ndrop a;", 1, "no `-- migrate:up`"),
        ("-- migrate:down\ndrop a;\n-- migrate:up\ncreate a;", 3, "comes after"),
        ("-- migrate:up\ncreate a;\n-- migrate:up\ncreate b;", 3, "second time"),
        ("-- migrate:up\n-- migrate:down\n\n-- migrate:down", 4, "second time"),
        ("-- migrate:up\n-- migrate:rollback\n", 2, "no marker"),
        ("-- migrate:up transaction=false\n", 1, "transaction=false"),
        ("-- migrate:up transaction:maybe\n", 1, "takes true or false"),
        ("create a;\n\n-- +goose Down\ndrop a;", 3, "another tool's mark"),
        ("create a;\n---- create above / drop below ----\ndrop a;", 2, "another tool's mark"),
    ],
)
def test_markers_that_cannot_be_meant(scripts: Path, text: str, line: int, says: str) -> None:
    (scripts / "001_a.sql").write_text(text)
    error = refusal(scripts)
    assert says in error.message
    assert error.line == line


@pytest.mark.parametrize(
    ("up", "down", "file", "line"),
    [
        ("create a;\n", "-- migrate:up\ndrop a;", "001_a.down.sql", 1),
        ("-- migrate:up\ncreate a;\n-- migrate:down\ndrop a;", "drop a;", "001_a.up.sql", 3),
        ("create a;", "-- hm\n-- environments: staging\ndrop a;", "001_a.down.sql", 2),
    ],
)
def test_halves_that_contradict_each_other(scripts: Path, up: str, down: str, file: str, line: int) -> None:
    (scripts / "001_a.up.sql").write_text(up)
    (scripts / "001_a.down.sql").write_text(down)
    error = refusal(scripts)
    assert error.file is not None
    assert (error.file.name, error.line) == (file, line)


def test_another_tools_mark_is_nothing_to_a_file_with_our_markers(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.sql", "-- migrate:up\nselect 1;\n-- +goose Down\n-- migrate:down\n")
    assert header(scripts).reversible


# --- SQL: declarations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "-- environments: staging, production\n-- transactional: false\nselect 1;",
        "\n\n--Environments:staging production\n/* why */ -- TRANSACTIONAL: False\nselect 1;",
        "-- environments: staging,production,\n-- migrate:up transaction:false\nselect 1;",
        "-- migrate:up\n-- environments: staging, production\n-- transactional: false\nselect 1;",
        "/* a /* nested */ licence */\r\n-- environments: staging, production\r\n-- transactional: false\r\n",
    ],
)
def test_declarations_of_sql(scripts: Path, text: str) -> None:
    (scripts / "001_a.sql").write_bytes(text.encode())
    found = header(scripts)
    assert found.environments == {"staging", "production"}
    assert found.transactional is False


def test_declarations_stand_at_the_head_only(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.sql", "select 1;\n-- environments: staging\n-- enviroments: staging\n")
    assert header(scripts).environments is None


@pytest.mark.parametrize(
    ("text", "apply", "rollback"),
    [
        ("-- transactional: false\n-- migrate:up\n-- migrate:down\n", False, False),
        ("-- migrate:up transaction:false\n-- migrate:down\n", False, True),
        ("-- migrate:up\n-- migrate:down transaction: false\n", True, False),
        ("-- transactional: false\n-- migrate:up\n-- migrate:down transaction:true\n", False, True),
        ("-- migrate:up\n-- migrate:down\n-- transactional: false\ndrop a;", True, False),
    ],
)
def test_each_part_declares_its_transaction(scripts: Path, text: str, apply: bool, rollback: bool) -> None:
    (scripts / "001_a.sql").write_text(text)
    found = header(scripts)
    assert (found.transactional, found.rollback_transactional) == (apply, rollback)
    assert load(only(scripts), Direction.APPLY).transactional is apply
    assert load(only(scripts), Direction.ROLLBACK).transactional is rollback


def test_each_half_declares_its_transaction(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.up.sql", "-- transactional: false\n-- environments: staging\nselect 1;")
    write_script("001_a.down.sql", "-- environments: staging\nselect 1;")
    found = header(scripts)
    assert (found.transactional, found.rollback_transactional) == (False, True)


@pytest.mark.parametrize(
    ("text", "line", "says", "cure"),
    [
        ("-- transactional: maybe\n", 1, "`transactional` takes true or false, and not 'maybe'", "Correct"),
        ("-- why\n-- environments:\n", 2, "`environments` takes the labels", "Correct"),
        ("-- enviroments: staging\n", 1, "`enviroments` is no declaration", "`-- environments: …`"),
        ("-- Environment: production\n", 1, "`Environment` is no declaration", "`-- environments: …`"),
        ("-- transaction: false\n", 1, "`transaction` is no declaration", "`-- transactional: …`"),
        ("-- transactional: false\n-- transactional: true\n", 2, "second time", "Keep one"),
    ],
)
def test_declarations_that_cannot_be_meant(scripts: Path, text: str, line: int, says: str, cure: str) -> None:
    (scripts / "001_a.sql").write_text(text)
    error = refusal(scripts)
    assert says in error.message
    assert error.line == line
    assert error.hint is not None
    assert cure in error.hint


@pytest.mark.parametrize(
    "text",
    [
        "-- Name: users; Type: TABLE; Schema: public\nselect 1;",
        "-- Note: this takes long\n-- see https://example.org/x\n-- transactional work follows\nselect 1;",
        "-- the environments: all of them\nselect 1;",
        "-- a::b\nselect 1;",
    ],
)
def test_ordinary_comments_are_left_alone(scripts: Path, text: str) -> None:
    (scripts / "001_a.sql").write_text(text)
    assert header(scripts).environments is None


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("-- Add users,\n-- and more.\n\n-- Details.\nselect 1;", "Add users, and more."),
        ("-- ======\n-- Add users.\n-- ======\n-- transactional: false\nselect 1;", "Add users."),
        ("-- transactional: false\n-- Add users.\nselect 1;", "Add users."),
        ("/*\n * Add users.\n *\n * Details.\n */\nselect 1;", "Add users."),
        ("-- migrate:up\n-- Add users.\nselect 1;\n-- migrate:down\n-- Drop them.\n", "Add users."),
        ("-- Add users.\n-- migrate:up\n-- Details.\n", "Add users."),
        ("select 1; -- no", ""),
        ("/* never closed", ""),
    ],
)
def test_description_of_sql(scripts: Path, text: str, description: str) -> None:
    (scripts / "001_a.sql").write_text(text)
    assert header(scripts).description == description


# --- Python -----------------------------------------------------------------------------------------------------------


def test_a_python_script(write_script: WriteScript, scripts: Path) -> None:
    text = '''\
    """Migration: 001_a

    Creates the
    first table.
    """
    raise RuntimeError("never imported")
    environments = ("development", "staging")
    transactional: bool = False

    def apply(conn, environment):
        ...

    def rollback(conn, environment):
        ...
    '''
    path = write_script("001_a.py", text)
    assert header(scripts) == Header(
        checksum=sha(path.read_text().rstrip()),
        rollback_checksum=None,
        reversible=True,
        environments=frozenset({"development", "staging"}),
        transactional=False,
        rollback_transactional=False,
        description="Creates the first table.",
    )
    assert texts(only(scripts)) == (path.read_text(), None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('("a", "b")', {"a", "b"}),
        ('["a"]', {"a"}),
        ('{"a", "b"}', {"a", "b"}),
        ('"a"', {"a"}),
        ('"a, b"', {"a", "b"}),
        ("None", None),
    ],
)
def test_environments_of_python(scripts: Path, value: str, expected: set[str] | None) -> None:
    (scripts / "001_a.py").write_text(f"environments = {value}\n{APPLY}")
    assert header(scripts).environments == expected


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("environments = ()\n", 1, "`environments` takes the labels"),
        ("\nenvironments = ('a', 1)\n", 2, "`environments` takes the labels"),
        ("environments = 5\n", 1, "`environments` takes the labels"),
        ("environments = {[]}\n", 1, "without running"),
        ("environments = tuple(x)\n", 1, "without running"),
        ("environments, transactional = 'a', False\n", 1, "without running"),
        ("if True:\n    environments = ('a',)\n", 2, "without running"),
        ("environments = ('a',)\nenvironments += ('b',)\n", 2, "without running"),
        ("from somewhere import environments\n", 1, "without running"),
        ("transactional = 0\n", 1, "`transactional` takes true or false, and not 0"),
        ("enviroments = ('a',)\n", 1, "`enviroments` is no declaration"),
        ("TRANSACTIONAL = False\n", 1, "`TRANSACTIONAL` is no declaration"),
    ],
)
def test_python_declarations_that_cannot_be_meant(scripts: Path, text: str, line: int, says: str) -> None:
    (scripts / "001_a.py").write_text(text + APPLY)
    error = refusal(scripts)
    assert says in error.message
    assert error.line == line


def test_a_variable_that_is_used_is_no_misspelt_declaration(scripts: Path) -> None:
    (scripts / "001_a.py").write_text("environment_ = 'x'\nprint(environment_)\n" + APPLY)
    assert header(scripts).environments is None


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("x = 1\n", None, "no function `apply`"),
        ("", None, "no function `apply`"),
        ("apply = None\n", None, "no function `apply`"),
        ("class A:\n    def apply(conn, environment): ...\n", None, "no function `apply`"),
        ("\nasync def apply(conn, environment): ...\n", 2, "`async def`"),
        (APPLY + "async def rollback(conn, environment): ...\n", 2, "`rollback` is `async def`"),
        ("def apply(conn): ...\n", 1, "a connection and an environment"),
        ("def apply(a, b, c): ...\n", 1, "a connection and an environment"),
        ("def apply(*, conn, environment): ...\n", 1, "a connection and an environment"),
        ("def apply(a, b, *, c): ...\n", 1, "a connection and an environment"),
        (APPLY + "def rollback(): ...\n", 2, "`rollback` cannot be called"),
        ("def apply(conn, environment):\n    yield\n", 1, "generator"),
        ("def apply(conn, environment):\n    if (yield from x()): ...\n", 1, "generator"),
        ("def apply(conn, environment):\nconn\n", 2, "expected an indented block"),
        ("x = (\n", 1, "was never closed"),
        ("x = '\u00a0\n", 1, "unterminated"),
        ("x =\u00a01\n", 1, "U+00A0"),
    ],
)
def test_python_that_cannot_run(scripts: Path, text: str, line: int | None, says: str) -> None:
    (scripts / "001_a.py").write_text(text)
    error = refusal(scripts)
    assert says in error.message
    assert error.line == line


@pytest.mark.parametrize(
    "text",
    [
        "def apply(conn, environment, more=1): ...\n",
        "def apply(*args): ...\n",
        "def apply(conn, /, environment='x'): ...\n",
        "def apply(conn, environment, *, more=1): ...\n",
        "from helpers import apply\n",
        "from helpers import *\n",
        "from helpers import make as apply\n",
        "apply = lambda conn, environment: None\n",
        "try:\n    from a import apply\nexcept ImportError:\n    def apply(conn, environment): ...\n",
        "@decorated\nasync def apply(conn): ...\n",
        "def apply(conn, environment):\n    def rows():\n        yield 1\n    list(rows())\n",
        "def apply(conn): ...\ndef apply(conn, environment): ...\n",
    ],
)
def test_python_that_can_run_as_far_as_one_sees(scripts: Path, text: str) -> None:
    (scripts / "001_a.py").write_text(text)
    assert header(scripts).transactional


@pytest.mark.parametrize(
    ("text", "reversible"),
    [("", False), ("rollback = None\n", False), ("rollback = apply\n", True), ("from helpers import *\n", True)],
)
def test_whether_python_can_be_rolled_back(scripts: Path, text: str, reversible: bool) -> None:
    (scripts / "001_a.py").write_text(APPLY + text)
    assert header(scripts).reversible is reversible


@pytest.mark.parametrize("text", ["(" * 500, "-" * 200_000 + "1", "x = " + "1+" * 100_000 + "1", "x = " + "9" * 5000])
def test_python_that_is_too_much_for_python(scripts: Path, text: str) -> None:
    (scripts / "001_a.py").write_text(text + "\n" + APPLY)
    with pytest.raises(ScriptError):
        load(only(scripts), Direction.APPLY)


def test_a_very_long_elif_chain_is_read(scripts: Path) -> None:
    chain = "if x == 0:\n    pass\n" + "".join(f"elif x == {i}:\n    pass\n" for i in range(300))
    (scripts / "001_a.py").write_text(chain + APPLY)
    assert header(scripts).reversible is False


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["001_a.sql", "001_a.py"])
@pytest.mark.parametrize(
    ("raw", "line", "says"),
    [
        (b"-- one\n-- two\0\n", 2, "NUL"),
        (b"# one\n# two\n# caf\xe9\n", 3, "byte 6 of the line (0xE9) is no UTF-8"),
        (b"\xc0\x80", 1, "byte 1 of the line (0xC0)"),
        ("# x".encode("utf-16"), None, "UTF-16"),
        (b"\xef\xbb\xbf# one\n\xff", 2, "0xFF"),
    ],
)
def test_bytes_that_are_no_text(scripts: Path, file: str, raw: bytes, line: int | None, says: str) -> None:
    (scripts / file).write_bytes(raw)
    error = refusal(scripts)
    assert says in error.message
    assert error.line == line


@pytest.mark.parametrize(
    ("file", "text"),
    [("001_a.sql", "-- environments: staging\nselect 'ü';\n"), ("001_a.py", f"environments = 'staging'\n{APPLY}")],
)
def test_mark_line_ends_and_final_white_space_change_no_checksum(scripts: Path, file: str, text: str) -> None:
    seen = set()
    for raw in (
        text.encode(),
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n").encode(),
        text.rstrip().encode(),
        text.encode() + b" \t\r\n\x0c\n",
    ):
        (scripts / file).write_bytes(raw)
        found = header(scripts)
        assert found.environments == {"staging"}
        seen.add(found.checksum)
        assert load(only(scripts), Direction.APPLY).checksum == found.checksum
    assert seen == {sha(text.rstrip())}


def test_sql_is_kept_as_written(scripts: Path) -> None:
    text = "insert into a values ('100%', ':x', '{\"a\":1}', $$\r\n\\$$);\r\n\t"
    (scripts / "001_a.sql").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load(only(scripts), Direction.APPLY).text == text


def test_a_file_that_went_away(write_script: WriteScript, scripts: Path) -> None:
    path = write_script("001_a.sql", "select 1;")
    migration = only(scripts)
    path.unlink()
    path.mkdir()
    with pytest.raises(ScriptError, match=r"001_a\.sql cannot be read"):
        read(migration)


# --- environments -----------------------------------------------------------------------------------------------------


def test_unknown_environments_are_found_all_at_once(write_script: WriteScript, scripts: Path) -> None:
    write_script("001_a.sql", "-- why\n-- environments: stagging, production\nselect 1;")
    write_script("002_b.py", f"\nenvironments = ['moon', 'sun']\n{APPLY}")
    write_script("003_c.sql", "-- environments: production\n")
    write_script("004_d.sql", "select 1;")
    migrations = [read(m) for m in scan(scripts).migrations]
    problems = check_environments(migrations, ("staging", "production"))
    assert [(p.number, p.line, p.blocking) for p in problems] == [(1, 2, True), (2, 1, True), (2, 1, True)]
    assert "001_a.sql, line 2: unknown environment 'stagging'. Known are staging, production." in problems[0].message
    assert "Did you mean 'staging'?" in problems[0].hint
    assert "DB_MIGRATE_ENVIRONMENTS" in problems[1].hint
