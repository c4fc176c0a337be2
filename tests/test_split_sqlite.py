"""The SQLite splitter against tables, against `sqlite3.complete_statement()`, and against SQLite itself."""

from __future__ import annotations

import itertools
import os
import random
import re
import sqlite3

import pytest

from cryoprotect.migrations_ext.dialects.split_sqlite import split
from cryoprotect.migrations_ext.dialects.statements import StatementKind, psql_command, unwrap

TRIALS = int(os.environ.get("SPLIT_TRIALS", "2000"))
TRIGGER = "create trigger r after insert on t begin "


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", []),
        (" \n\t\f\r ", []),
        (";;; ; -- nothing\n /* at all; */ ;", []),
        ("select 1", ["select 1"]),
        ("select 1; select 2;", ["select 1", "select 2"]),
        ("-- head;\n/* more; */ select 1 -- tail;\n ; /* end; */", ["select 1"]),
        ("select /* in; */ 1 -- in;\n + 2;", ["select /* in; */ 1 -- in;\n + 2"]),
        ("select 1 /* no end; ", ["select 1"]),
        ("/* no end; ", []),
        ("select ';', 'it''s;', '\\'; x", ["select ';', 'it''s;', '\\'", "x"]),
        ('select "a;""b;", `c;``d`, [e;\'f], \'[g\'; x', ['select "a;""b;", `c;``d`, [e;\'f], \'[g\'', "x"]),
        ("select 1 /* /* ; */; x */", ["select 1", "x */"]),
        ("select 1-2, 3/4, 5 - -6 --;\n; x", ["select 1-2, 3/4, 5 - -6", "x"]),
        ("select $$;$$; x", ["select $$", "$$", "x"]),
        ("explain temp create trigger; x", ["explain temp create trigger", "x"]),
        ("select (1; 2)", ["select (1", "2)"]),
        ("x; select 'a; y", ["x", "select 'a; y"]),
        ('x; select "a; y', ["x", 'select "a; y']),
        ("x; select `a; y", ["x", "select `a; y"]),
        ("x; select [a; y", ["x", "select [a; y"]),
        ("select '%', :a, ?1, @b, '{\"a\":true}';", ["select '%', :a, ?1, @b, '{\"a\":true}'"]),
    ],
)
def test_cuts_at_the_semicolons_that_end_a_statement(script: str, expected: list[str]) -> None:
    assert [statement.text for statement in split(script)] == expected


@pytest.mark.parametrize(
    "statement",
    [
        TRIGGER + "select 1; select 2; end",
        TRIGGER + "select case when 1 then 2 end; END",
        TRIGGER + "select ';end;'; /* ; end; */ -- ; end;\n end",
        TRIGGER + "select 1;; end -- x\n",
        "CREATE TEMP TRIGGER r AFTER UPDATE ON t BEGIN SELECT 1; END",
        "create /* x */ temporary -- y\n trigger if not exists r before delete on t begin select 1; end",
        "explain query plan create trigger r after insert on t begin select 1; end",
        "create table trigger_log (a)",
        'create table "trigger" (a)',
        "create index trigger_index on t (a)",
    ],
)
def test_keeps_the_body_of_a_trigger_together(statement: str) -> None:
    found = [s.text for s in split(f"{statement};x;{statement}\n;x")]
    kept = statement.removesuffix(" -- x\n")
    assert found == [kept, "x", kept, "x"]


def test_an_unfinished_trigger_takes_the_rest() -> None:
    script = "x; " + TRIGGER + "select 1; select 2; y; z;"
    assert [statement.text for statement in split(script)] == ["x", script[3:]]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("begin; begin deferred; BEGIN/**/IMMEDIATE transaction; begin exclusive; beginning", "begin " * 4 + "sql"),
        ("commit; COMMIT -- x\n transaction; end; end transaction", "commit " * 4),
        ("rollback; rollback transaction; rollback /* to */ transaction a; rollback", "rollback " * 4),
        ("rollback to a; rollback to savepoint a; rollback transaction to a", "savepoint " * 3),
        ("rollback transaction 'x' to a; ROLLBACK--\nTO a", "savepoint " * 2),
        ("savepoint a; release a; RELEASE savepoint a", "savepoint " * 3),
        ("rollback; to a; 'commit'; [end]; ROLLBAC\N{KELVIN SIGN}; end1", "rollback " + "sql " * 5),
        ("explain commit; select 1 begin", "sql sql"),
        (TRIGGER + "select 1; end; end", "sql commit"),
    ],
)
def test_knows_what_a_statement_does_to_the_transaction(script: str, expected: str) -> None:
    assert [statement.kind.value for statement in split(script)] == expected.split()


@pytest.mark.parametrize(
    ("script", "inner", "wrapped"),
    [
        ("begin; a; b; commit;", ["a", "b"], True),
        ("BEGIN IMMEDIATE TRANSACTION; a; savepoint s; END TRANSACTION;", ["a", "savepoint s"], True),
        ("begin exclusive; " + TRIGGER + "select 1; end; commit", [TRIGGER + "select 1; end"], True),
        ("begin; a; rollback", ["begin", "a", "rollback"], False),
        ("a; begin; commit", ["a", "begin", "commit"], False),
    ],
)
def test_sets_a_wrapper_around_the_whole_script_aside(script: str, inner: list[str], wrapped: bool) -> None:
    found, was_wrapped = unwrap(split(script))
    assert ([statement.text for statement in found], was_wrapped) == (inner, wrapped)


def test_a_word_behind_a_dot_is_a_command_of_the_shell() -> None:
    script = "-- x\n.read other;file.sql \nselect 1.5, a.b\n.c;\n  .mode csv\nselect .5;"
    found = split(script)
    assert [(s.line, s.text) for s in found] == [
        (2, ".read other;file.sql"),
        (3, "select 1.5, a.b\n.c"),
        (5, ".mode csv"),
        (6, "select .5"),
    ]
    assert [s.kind for s in found] == [StatementKind.PSQL, StatementKind.SQL] * 2
    assert psql_command(found) == found[0]


def test_tells_where_each_statement_stands() -> None:
    script = "-- é\r\nselect 1;\r\n\r\n/* two\nlines */ select\n'a\nb';select 3;\n" + TRIGGER + "\nselect 1;\nend;x"
    found = split(script)
    assert [s.line for s in found] == [2, 5, 7, 8, 10]
    for statement in found:
        assert script[statement.offset :].startswith(statement.text)


@pytest.mark.parametrize(
    "piece", ["(", "'a' ", "'", "[", "/*", "/* */", "-- \n", "; ", "end ", ";end ", "trigger ", "."]
)
@pytest.mark.parametrize("head", ["select ", TRIGGER, "explain "])
def test_time_is_linear_in_the_length_of_the_text(head: str, piece: str) -> None:
    split(head + piece * 60_000)  # quadratic, this would take minutes; the suite would not end


# --- SQLite's own word ---

LEXEMES = [
    "';'", "'a''b;'", "'\\'", '"a;""b"', "`a;``b`", "[a;'b]", "[[]", "']'", "$$", "$a$", "a$b", "é", "_", "1", "1end",
    "create", "CREATE", "temp", "temporary", "trigger", "Trigger", "end", "END", "explain", "begin", "case", "select",
    "create trigger", "create temp trigger", ";end;", "; END /*;*/ ;", "--;\n", "--'\n", "--\r", "--\r\n", "-", "--",
    "e", "/", "/*;*/", "/*'*/", "/*/*;*/", "/*/", "*/", "/***/", "'", "(", ")", ",", ".", "*", "?", "@", ":a", "\\",
    ";", ";", ";", ";", ";", " ", " ", " ", " ", " ", "\n", "\n", "\t", "\r\n", "\f", "\v", "\u00a0", "\u2028", "😀",
]  # fmt: skip


def soup(chance: random.Random) -> str:
    return chance.choice(["", " ", "\n"]).join(chance.choices(LEXEMES, k=chance.randint(1, 25)))


def complete_ends(script: str) -> list[int]:
    """Every semicolon with which `script` becomes complete.

    The one before must not have been: in a comment after a complete statement some versions answer yes again.
    """
    complete = sqlite3.complete_statement
    return [i for i, c in enumerate(script) if c == ";" and complete(script[: i + 1]) and not complete(script[:i])]


NOTHING = re.compile(r"(?:[ \t\n\r\f;]|--[^\n]*|/\*.*?(?:\*/|\Z))*", re.DOTALL)


def test_cuts_random_scripts_where_complete_statement_does() -> None:
    cuts = 0
    for seed in range(TRIALS):
        script = soup(random.Random(seed))
        found = split(script)
        if psql_command(found):
            continue  # SQLite knows nothing of its shell's commands
        borders = [-1, *complete_ends(script), len(script)]
        for before, after in itertools.pairwise(borders):
            inside = [s for s in found if before < s.offset < after]
            assert len(inside) <= 1, f"seed {seed}: cut where nothing ends: {script!r}"
            start, end = (inside[0].offset, inside[0].offset + len(inside[0].text)) if inside else (after, after)
            assert end <= after, f"seed {seed}: an end was missed: {script!r}"
            for left_out in (script[before + 1 : start], script[end:after]):
                assert NOTHING.fullmatch(left_out), f"seed {seed}: {left_out!r} is missing: {script!r}"
        cuts += len(borders) - 2
    assert cuts > TRIALS
