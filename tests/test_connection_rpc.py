"""`conn.rpc`: functions of the database by name, and the three that the tool answers itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from cryoprotect.migrations_ext.errors import ScriptCallError, ScriptGuardError

Open = Callable[..., Any]


@pytest.fixture
def conn(database: Any, open_migration: Open) -> Any:
    conn = open_migration(database).conn
    conn.sql("CREATE TABLE molecules (id integer PRIMARY KEY, name text)").execute()
    return conn


@pytest.fixture
def pg(postgres_database: Any, open_migration: Open) -> Any:
    conn = open_migration(postgres_database).conn
    conn.sql("""
        CREATE TABLE molecules (id integer PRIMARY KEY, name text);
        INSERT INTO molecules VALUES (1, 'DMSO'), (2, 'Glycerol');
        CREATE FUNCTION add(a smallint, b numeric DEFAULT 1) RETURNS numeric LANGUAGE sql AS 'SELECT a + b';
        CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS 'SELECT';
        CREATE FUNCTION missing() RETURNS boolean LANGUAGE sql AS 'SELECT NULL::boolean';
        CREATE FUNCTION every() RETURNS SETOF molecules LANGUAGE sql AS 'SELECT * FROM molecules ORDER BY id';
        CREATE FUNCTION numbers(n integer) RETURNS SETOF integer LANGUAGE sql AS 'SELECT generate_series(1, n)';
        CREATE FUNCTION pairs() RETURNS TABLE (k integer, v text) LANGUAGE sql AS 'SELECT id, name FROM molecules';
        CREATE FUNCTION first_one() RETURNS molecules LANGUAGE sql AS 'SELECT * FROM molecules WHERE id = 1';
        CREATE FUNCTION span(OUT low integer, OUT high integer) LANGUAGE sql
            AS 'SELECT min(id), max(id) FROM molecules';
        CREATE FUNCTION look(doc jsonb, tags text[]) RETURNS text LANGUAGE sql AS 'SELECT (doc->>0) || tags[1]';
        CREATE FUNCTION over(a integer) RETURNS text LANGUAGE sql AS $$SELECT 'integer'$$;
        CREATE FUNCTION over(a text) RETURNS text LANGUAGE sql AS $$SELECT 'text'$$;
        CREATE SCHEMA lab; CREATE FUNCTION lab."Mixed Case"("Arg" text) RETURNS text LANGUAGE sql AS 'SELECT $1';
    """).execute()
    return conn


@pytest.mark.parametrize(
    ("function", "params", "expected"),
    [
        ("add", {"a": 2}, [3]),
        ("add", {"b": 1.5, "a": 2}, [3.5]),
        ("nothing", None, []),
        ("missing", None, [None]),
        ("every", {}, [{"id": 1, "name": "DMSO"}, {"id": 2, "name": "Glycerol"}]),
        ("numbers", {"n": 2}, [{"numbers": 1}, {"numbers": 2}]),
        ("pairs", None, [{"k": 1, "v": "DMSO"}, {"k": 2, "v": "Glycerol"}]),
        ("first_one", None, [{"id": 1, "name": "DMSO"}]),
        ("span", None, [{"low": 1, "high": 2}]),
        ("look", {"doc": ["100%"], "tags": ["x"]}, ["100%x"]),
        ("lab.Mixed Case", {"Arg": "it's"}, ["it's"]),
        ("over", {"a": 1}, ["integer"]),
        ("lower", None, None),
    ],
)
def test_functions_of_postgresql(pg: Any, function: str, params: Any, expected: Any) -> None:
    if expected is None:  # exists, but not with these arguments: the server says so
        with pytest.raises(sa.exc.ProgrammingError, match="does not exist"):
            pg.rpc(function, params).execute()
        return
    assert pg.rpc(function, params).execute().data == expected
    assert pg.progress.text.startswith("SELECT * FROM ")


def test_parameters_can_be_named_in_the_call(pg: Any) -> None:
    assert pg.rpc("add", a=2, b=3).execute().data == [5]
    assert pg.rpc("add", {"a": 2}, b=4).execute().data == [6]


def test_an_unknown_function_is_the_servers_word(pg: Any) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match=r"function unheard_of\(x => integer\) does not exist"):
        pg.rpc("unheard_of", {"x": 1}).execute()
    assert pg.failed is not None


def test_has_table_and_has_column(conn: Any) -> None:
    def answer(function: str, **params: str) -> Any:
        result = conn.rpc(function, params).execute()
        return result.data[0] if result.data else False

    before = conn.progress.number
    assert answer("has_table", table_name="molecules") is True
    assert answer("has_table", table_name="mixtures") is False
    assert answer("has_column", table_name="molecules", column_name="name") is True
    assert answer("has_column", table_name="molecules", column_name="formula") is False
    assert answer("has_column", table_name="mixtures", column_name="name") is False
    schema = "public" if conn.dialect == "postgresql" else "main"
    assert answer("has_table", table_name=f"{schema}.molecules") is True
    assert conn.progress.number == before


@pytest.mark.parametrize("parameter", ["sql", "query", "sql_query"])
def test_exec_sql(conn: Any, parameter: str) -> None:
    text = "INSERT INTO molecules VALUES (1, '50%'); SELECT name FROM molecules"
    assert conn.rpc("exec_sql", {parameter: text}).execute().data == [{"name": "50%"}]
    with pytest.raises(ScriptGuardError):
        conn.rpc("exec_sql", {parameter: "COMMIT"}).execute()


def test_the_databases_own_function_comes_first(pg: Any) -> None:
    pg.sql("""
        CREATE FUNCTION has_table(table_name text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION exec_sql(statement text) RETURNS text LANGUAGE sql AS 'SELECT statement';
    """).execute()
    assert pg.rpc("has_table", {"table_name": "mixtures"}).execute().data == [True]
    assert pg.rpc("exec_sql", {"statement": "x"}).execute().data == ["x"]
    assert pg.rpc("exec_sql", {"query": "SELECT 1 AS one"}).execute().data == [{"one": 1}]


def test_missing_parameters_are_told(conn: Any) -> None:
    with pytest.raises(ScriptCallError, match="needs sql or query or sql_query as text"):
        conn.rpc("exec_sql", {"text": "SELECT 1"}).execute()
    with pytest.raises(ScriptCallError, match="needs column_name as text") as error:
        conn.rpc("has_column", {"table_name": "molecules"}).execute()
    assert error.value.hint


def test_sqlite_has_no_functions(sqlite_database: Any, open_migration: Open) -> None:
    with pytest.raises(ScriptCallError, match="SQLite has no stored functions") as error:
        open_migration(sqlite_database).conn.rpc("add", {"a": 1}).execute()
    assert "conn.dialect" in error.value.hint
