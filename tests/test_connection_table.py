"""`conn.table`: the same rows and the same meaning on both databases."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from cryoprotect.migrations_ext.errors import ScriptCallError

Open = Callable[..., Any]


@pytest.fixture
def conn(database: Any, open_migration: Open) -> Any:
    conn = open_migration(database).conn
    conn.sql("""
        CREATE TABLE molecules (
            id integer PRIMARY KEY, name text, weight numeric, toxic boolean, unit text DEFAULT 'g/mol',
            UNIQUE (name, unit)
        );
        INSERT INTO molecules (id, name, weight, toxic) VALUES
            (1, 'Glycerol', 92.09, false), (2, 'DMSO', 78.13, NULL), (3, 'ethylene_glycol', NULL, true),
            (4, 'Trehalose', 342.3, false), (5, '100% [Pure]*', 1, false);
    """).execute()
    return conn


def ids(result: Any) -> list[int]:
    return [row["id"] for row in result.data]


# --- reading


@pytest.mark.parametrize("columns", [("id, name",), ("id", "name"), ("id,\n name",)])
def test_select_names_columns(conn: Any, columns: tuple[str, ...]) -> None:
    assert conn.table("molecules").select(*columns).eq("id", 1).execute().data == [{"id": 1, "name": "Glycerol"}]


@pytest.mark.parametrize("columns", [(), ("*",)])
def test_select_everything(conn: Any, columns: tuple[str, ...]) -> None:
    [row] = conn.from_("molecules").select(*columns).eq("id", 4).execute().data
    assert list(row) == ["id", "name", "weight", "toxic", "unit"]


@pytest.mark.parametrize(
    ("apply", "expected"),
    [
        (lambda q: q.eq("name", "DMSO"), [2]),
        (lambda q: q.eq("weight", None), [3]),
        (lambda q: q.neq("id", 1), [2, 3, 4, 5]),
        (lambda q: q.neq("weight", None), [1, 2, 4, 5]),
        (lambda q: q.gt("id", 3), [4, 5]),
        (lambda q: q.gte("id", 3), [3, 4, 5]),
        (lambda q: q.lt("id", 3), [1, 2]),
        (lambda q: q.lte("id", 3), [1, 2, 3]),
        (lambda q: q.gt("id", 1).lt("id", 4), [2, 3]),
        (lambda q: q.like("name", "%g%"), [3]),
        (lambda q: q.like("name", "G%"), [1]),
        (lambda q: q.like("name", "DMS_"), [2]),
        (lambda q: q.like("name", "ethylene\\_%"), [3]),
        (lambda q: q.like("name", "ethylene\\g%"), []),
        (lambda q: q.like("name", "100\\% [P%]*"), [5]),
        (lambda q: q.not_.like("name", "%l%"), [2, 5]),
        (lambda q: q.ilike("name", "%G%"), [1, 3]),
        (lambda q: q.ilike("name", "100\\%%"), [5]),
        (lambda q: q.ilike("name", "%\\_GLYCOL"), [3]),
        (lambda q: q.in_("id", [1, 4, 9]), [1, 4]),
        (lambda q: q.in_("id", (n for n in (2, 3))), [2, 3]),
        (lambda q: q.in_("id", []), []),
        (lambda q: q.not_.in_("id", [1, 2, 3]), [4, 5]),
        (lambda q: q.is_("toxic", None), [2]),
        (lambda q: q.is_("toxic", "null"), [2]),
        (lambda q: q.is_("toxic", True), [3]),
        (lambda q: q.is_("toxic", "false"), [1, 4, 5]),
        (lambda q: q.not_.is_("toxic", "null"), [1, 3, 4, 5]),
        (lambda q: q.not_.is_("toxic", "TRUE"), [1, 2, 4, 5]),
        (lambda q: q.not_.eq("id", 1).eq("id", 2), [2]),
        (lambda q: q.not_.not_.eq("id", 1), [1]),
        (lambda q: q.eq("toxic", False), [1, 4, 5]),
        (lambda q: q.limit(2), [1, 2]),
        (lambda q: q.limit(2).offset(1), [2, 3]),
        (lambda q: q.offset(3), [4, 5]),
        (lambda q: q.range(1, 3), [2, 3, 4]),
        (lambda q: q.limit(0), []),
    ],
)
def test_filters_and_windows(conn: Any, apply: Callable[[Any], Any], expected: list[int]) -> None:
    assert ids(apply(conn.table("molecules").select("id")).order("id").execute()) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [5, 2, 1, 4, 3]),
        ({"desc": True}, [3, 4, 1, 2, 5]),
        ({"nullsfirst": True}, [3, 5, 2, 1, 4]),
        ({"desc": True, "nullsfirst": False}, [4, 1, 2, 5, 3]),
    ],
)
def test_nulls_sort_alike_on_both_databases(conn: Any, options: dict[str, bool], expected: list[int]) -> None:
    assert ids(conn.table("molecules").select("id").order("weight", **options).execute()) == expected


def test_order_within_equals(conn: Any) -> None:
    query = conn.table("molecules").select("id").order("unit").order("id", desc=True)
    assert ids(query.execute()) == [5, 4, 3, 2, 1]


def test_exact_count_is_of_all_that_match(conn: Any) -> None:
    query = conn.table("molecules").select("id", count="exact").gt("id", 1).order("id").limit(2)
    result = query.execute()
    assert ids(result) == [2, 3]
    assert result.count == 4
    assert conn.table("molecules").select("id").execute().count is None
    counted = conn.table("molecules").select("*", count="exact", head=True).execute()
    assert (counted.data, counted.count) == ([], 5)


def test_single(conn: Any) -> None:
    table = conn.table("molecules")
    assert table.select("name").eq("id", 2).single().execute().data == {"name": "DMSO"}
    with pytest.raises(ScriptCallError, match="exactly one row was expected, none matches") as error:
        table.select("name").eq("id", 99).single().execute()
    assert "maybe_single" in error.value.hint
    with pytest.raises(ScriptCallError, match="more than one matches"):
        table.select("name").single().execute()
    assert table.select("name").eq("id", 99).maybe_single().execute().data is None
    assert table.select("name").eq("id", 2).maybe_single().execute().data == {"name": "DMSO"}
    with pytest.raises(ScriptCallError, match="at most one row was expected"):
        table.select("name").maybe_single().execute()
    conn.check()


# --- writing


def test_insert_answers_with_the_rows(conn: Any) -> None:
    result = conn.table("molecules").insert({"id": 6, "name": "Sucrose"}).execute()
    assert result.data == [{"id": 6, "name": "Sucrose", "weight": None, "toxic": None, "unit": "g/mol"}]
    assert result.count == 1


def test_rows_of_different_shape_take_defaults_and_keep_their_order(conn: Any) -> None:
    rows = [
        {"id": 6, "name": "a"},
        {"name": "b", "id": 7},
        {"id": 8, "unit": "kDa", "name": "c"},
        {"id": 9, "name": "d", "unit": None},
        {"id": 10, "name": "e"},
    ]
    written = conn.table("molecules").insert(rows).execute().data
    assert [(r["id"], r["name"], r["unit"]) for r in written] == [
        (6, "a", "g/mol"),
        (7, "b", "g/mol"),
        (8, "c", "kDa"),
        (9, "d", None),
        (10, "e", "g/mol"),
    ]


def test_many_rows(conn: Any) -> None:
    result = conn.table("molecules").insert([{"id": n, "name": str(n)} for n in range(100, 3100)]).execute()
    assert result.count == len({row["id"] for row in result.data}) == 3000
    before = conn.progress.number
    assert conn.table("molecules").insert([]).execute().data == []
    assert conn.table("molecules").upsert([]).execute().data == []
    assert conn.progress.number == before


def test_rows_of_defaults_only(conn: Any) -> None:
    conn.sql("CREATE TABLE d (a integer DEFAULT 3)").execute()
    assert conn.table("d").insert([{}, {}]).execute().data == [{"a": 3}, {"a": 3}]
    assert conn.table("d").upsert({}, on_conflict="a").execute().data == [{"a": 3}]


def test_update_and_delete_answer_with_the_rows(conn: Any) -> None:
    changed = conn.table("molecules").update({"unit": "kDa", "weight": None}).in_("id", [1, 2]).execute()
    assert sorted((r["id"], r["unit"], r["weight"]) for r in changed.data) == [(1, "kDa", None), (2, "kDa", None)]
    gone = conn.table("molecules").delete().eq("unit", "kDa").execute()
    assert sorted(ids(gone)) == [1, 2]
    assert gone.count == 2
    assert conn.table("molecules").delete().eq("id", 99).execute().data == []


def test_upsert_by_primary_key(conn: Any) -> None:
    rows = [{"id": 1, "name": "Glycerine"}, {"id": 6, "name": "Sucrose"}]
    result = conn.table("molecules").upsert(rows).execute()
    assert [(r["id"], r["name"], r["unit"]) for r in result.data] == [
        (1, "Glycerine", "g/mol"),
        (6, "Sucrose", "g/mol"),
    ]
    assert conn.table("molecules").upsert({"id": 1}).execute().data[0]["name"] == "Glycerine"


def test_upsert_by_other_columns(conn: Any) -> None:
    row = {"id": 9, "name": "DMSO", "unit": "g/mol", "weight": 5}
    kept = conn.table("molecules").upsert(row, on_conflict="name, unit", ignore_duplicates=True).execute()
    assert kept.data == []
    changed = conn.table("molecules").upsert({**row, "id": 2}, on_conflict="name,unit").execute()
    assert [(r["id"], float(r["weight"])) for r in changed.data] == [(2, 5.0)]


def test_upsert_needs_a_key(conn: Any) -> None:
    conn.sql("CREATE TABLE keyless (a integer)").execute()
    with pytest.raises(ScriptCallError, match="keyless has no primary key") as error:
        conn.table("keyless").upsert({"a": 1}).execute()
    assert "on_conflict" in error.value.hint


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_a_change_of_every_row_has_to_be_said(conn: Any, verb: str) -> None:
    query = conn.table("molecules").update({"unit": "x"}) if verb == "update" else conn.table("molecules").delete()
    with pytest.raises(ScriptCallError, match=f"has no filter and would {verb} every row") as error:
        query.execute()
    assert "conn.sql('" in error.value.hint
    assert conn.table("molecules").delete().neq("id", None).execute().count == 5


def test_json_columns_take_dictionaries_and_lists(conn: Any) -> None:
    kind = "jsonb" if conn.dialect == "postgresql" else "json"
    conn.sql(f"CREATE TABLE docs (id integer, doc {kind})").execute()
    conn.table("docs").insert([{"id": 1, "doc": {"a": [1, "ü"]}}, {"id": 2, "doc": [1, {"b": None}]}]).execute()
    conn.table("docs").update({"doc": []}).eq("id", 2).execute()
    table = sa.table("docs", sa.column("id"), sa.column("doc", sa.JSON))
    read = conn.execute(sa.select(table.c.doc).order_by(table.c.id)).scalars().all()
    assert read == [{"a": [1, "ü"]}, []]


def test_array_columns_take_lists(postgres_database: Any, open_migration: Open) -> None:
    conn = open_migration(postgres_database).conn
    conn.sql("CREATE SCHEMA lab; CREATE TABLE lab.a (id uuid, tags text[], doc json)").execute()
    key = uuid.uuid4()
    row = {"id": key, "tags": ["x", "y"], "doc": ["x", "y"]}
    assert conn.table("lab.a").insert(row).execute().data == [row]
    assert conn.table("lab.a").update({"tags": [], "doc": []}).eq("tags", ["x", "y"]).execute().count == 1
    assert conn.table("lab.a").select("tags").eq("id", str(key)).execute().data == [{"tags": []}]


def test_names_are_quoted(conn: Any) -> None:
    conn.sql('CREATE TABLE "Order" ("select" integer, "a ""b"" 100%" text, "Upper" text)').execute()
    row = {"select": 1, 'a "b" 100%': "x", "Upper": "y"}
    assert conn.table("Order").insert([row, row]).execute().data == [row, row]
    assert conn.table("Order").select("select, Upper").eq("Upper", "y").limit(1).execute().data == [
        {"select": 1, "Upper": "y"}
    ]
    injected = 'x"; DROP TABLE molecules; --'
    with pytest.raises(sa.exc.DBAPIError), conn.connection.begin_nested():
        conn.table(injected).select("*").execute()
    assert conn.rpc("has_table", {"table_name": "molecules"}).execute().data == [True]


def test_a_schema_can_be_named(conn: Any) -> None:
    schema = "public" if conn.dialect == "postgresql" else "main"
    assert conn.table(f"{schema}.molecules").select("id").eq("id", 1).execute().data == [{"id": 1}]
    conn.table(f"{schema}.molecules").upsert({"id": 1, "name": "x"}).execute()


# --- what cannot be answered is refused, with the way out


@pytest.mark.parametrize(
    "columns",
    ["id, mixtures(name)", "count()", "doc->>'a'", "doc->a", "label:name", "id::text", '"quoted"', "id,,name", ""],
)
def test_more_than_columns_is_refused(conn: Any, columns: str) -> None:
    with pytest.raises(ScriptCallError) as error:
        conn.table("molecules").select(columns)
    assert error.value.hint


def test_an_embedded_resource_is_named_as_a_whole(conn: Any) -> None:
    with pytest.raises(ScriptCallError, match=r"'id, mixtures\(name, id\)' is more than a column's name") as error:
        conn.table("molecules").select("id, mixtures(name, id)")
    assert "conn.sql('SELECT … FROM … JOIN …')" in error.value.hint


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.select("id").eq("mixtures(id)", 1),
        lambda t: t.select("id").in_("name", "abc"),
        lambda t: t.select("id").is_("name", "DMSO"),
        lambda t: t.select("id").is_("name", 1.5),
        lambda t: t.select("id").limit(-1),
        lambda t: t.select("id").limit("1"),
        lambda t: t.select("id").range(3, 1),
        lambda t: t.select("id", count="planned"),
        lambda t: t.select(1),
        lambda t: t.select("id").not_.execute(),
        lambda t: t.insert("x"),
        lambda t: t.insert([("id", 1)]),
        lambda t: t.insert({1: 2}),
        lambda t: t.insert(None),
        lambda t: t.update([{"id": 1}]),
        lambda t: t.update({}),
    ],
)
def test_calls_that_make_no_sense_are_refused(conn: Any, call: Callable[[Any], Any]) -> None:
    before = conn.progress.number
    with pytest.raises(ScriptCallError) as error:
        call(conn.table("molecules"))
    assert error.value.hint
    assert conn.progress.number == before


@pytest.mark.parametrize("name", ["", "a.b.c", "a.", None])
def test_names_that_are_none_are_refused(conn: Any, name: Any) -> None:
    with pytest.raises(ScriptCallError, match="is no table name"):
        conn.table(name)


def test_filters_that_are_not_offered_say_what_to_do(conn: Any) -> None:
    with pytest.raises(AttributeError, match=r"conn\.table\(…\)\.select\(\) has no 'or_'.*conn\.sql"):
        conn.table("molecules").select("id").or_("id.eq.1,id.eq.2")
    with pytest.raises(AttributeError, match=r"delete\(\) has no 'limit'"):
        conn.table("molecules").delete().eq("id", 1).limit(1)
