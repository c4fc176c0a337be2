"""`conn.sql` and SQL files: texts arrive as written, and the statement under way is always known."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoprotect.migrations_ext.connection import StatementReport, check_text
from cryoprotect.migrations_ext.connection.results import unique_names
from cryoprotect.migrations_ext.dialects import dialect_for
from cryoprotect.migrations_ext.errors import ScriptCallError, ScriptError, ScriptGuardError

Open = Callable[..., Any]


@pytest.fixture
def conn(database: Any, open_migration: Open) -> Any:
    return open_migration(database).conn


@pytest.fixture
def pg(postgres_database: Any, open_migration: Open) -> Any:
    return open_migration(postgres_database).conn


# --- texts as written


def test_many_statements_run_and_the_last_rows_come_back(conn: Any) -> None:
    result = conn.sql(
        "CREATE TABLE a (id integer); INSERT INTO a VALUES (1); SELECT 0 AS gone; SELECT id, id + 1 AS next FROM a;"
    ).execute()
    assert result.data == [{"id": 1, "next": 2}]
    assert result.count == 1


def test_ddl_answers_with_nothing(conn: Any) -> None:
    result = conn.sql("CREATE TABLE a (id integer)").execute()
    assert not result.data
    assert result.count is None


def test_an_empty_query_result_is_not_the_result_before_it(conn: Any) -> None:
    assert conn.sql("CREATE TABLE a (id integer); SELECT 1 AS one; SELECT * FROM a").execute().data == []


def test_a_change_says_how_many_rows(conn: Any) -> None:
    conn.sql("CREATE TABLE a (id integer); INSERT INTO a VALUES (1), (2), (3)").execute()
    assert conn.sql("UPDATE a SET id = id + 1 WHERE id > 1").execute().count == 2


@pytest.mark.parametrize("text", ["", "  \n", "-- only a comment\n", ";;"])
def test_nothing_to_run_is_fine(conn: Any, text: str) -> None:
    assert conn.sql(text).execute().data == []
    assert conn.progress.number == 0


@pytest.mark.parametrize(
    "literal", ["50%", "50%%", "%s %(x)s", ":name", "a::b", r"\:x", '{"a":true}', "?", "$1", "tab\there", "é漢"]
)
def test_what_looks_like_a_parameter_is_stored_as_written(conn: Any, literal: str) -> None:
    conn.sql(f"CREATE TABLE a (t text); INSERT INTO a VALUES ('{literal}')").execute()
    assert conn.sql("SELECT t FROM a").execute().data == [{"t": literal}]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(literal=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_literal_is_stored_as_written(conn: Any, literal: str) -> None:
    quoted = "'" + literal.replace("'", "''") + "'"
    assert conn.sql(f"SELECT {quoted} AS t").execute().data == [{"t": literal}]


def test_dollar_quotes_casts_and_slices(pg: Any) -> None:
    pg.sql(
        """
        CREATE FUNCTION half(n integer) RETURNS integer LANGUAGE plpgsql AS $body$
        BEGIN
            RETURN n / 2; -- 100%; :n
        END $body$;
        """
    ).execute()
    found = pg.sql("SELECT half('8'::integer) AS h, (ARRAY[1,2,3])[1:2] AS s, '{\"a\":1}'::jsonb -> 'a' AS j").execute()
    assert found.data == [{"h": 4, "s": [1, 2], "j": 1}]


def test_columns_of_one_name_do_not_hide_each_other(conn: Any) -> None:
    assert conn.sql("SELECT 1 AS id, 2 AS id, 3 AS id_2").execute().data == [{"id": 1, "id_3": 2, "id_2": 3}]


@pytest.mark.parametrize(
    ("given_names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a_2", "a_3"]),
        (["a", "a_2", "a"], ["a", "a_2", "a_3"]),
        (["a", "a", "a_2", "a_2"], ["a", "a_3", "a_2", "a_2_2"]),
        ([], []),
    ],
)
def test_unique_names(given_names: list[str], expected: list[str]) -> None:
    assert unique_names(given_names) == expected


def test_nothing_runs_before_execute_and_the_forgotten_line_is_known(conn: Any) -> None:
    conn.sql("CREATE TABLE a (id integer)")
    conn.sql("SELECT 1 AS done").execute()
    conn.table("migrations").insert({"id": 1})
    forgotten = conn.unexecuted()
    assert len(forgotten) == 2
    assert forgotten[0].endswith("conn.sql(CREATE TABLE a (id integer))")
    assert forgotten[0].startswith("line ")
    assert "conn.table('migrations').insert(…)" in forgotten[1]
    assert conn.rpc("has_table", {"table_name": "a"}).execute().data == [False]


def test_sqlalchemy_constructs_have_a_door_of_their_own(conn: Any) -> None:
    with pytest.raises(ScriptCallError) as refused:
        conn.sql(sa.text("SELECT 1"))
    assert "conn.execute" in refused.value.hint
    with pytest.raises(ScriptCallError) as refused:
        conn.execute("SELECT 1")
    assert "conn.sql" in refused.value.hint
    assert conn.execute(sa.text("SELECT :n"), {"n": 5}).scalar_one() == 5
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer))
    conn.execute(sa.schema.CreateTable(table))
    assert conn.execute(table.insert(), [{"id": 1}, {"id": 2}]).rowcount == 2


def test_an_sql_error_is_sqlalchemys_own(conn: Any) -> None:
    with pytest.raises(sa.exc.DBAPIError) as error:
        conn.sql("SELECT * FROM nowhere").execute()
    assert "nowhere" in str(error.value.orig)


# --- bound parameters


def test_named_parameters(conn: Any) -> None:
    conn.sql("CREATE TABLE a (id integer, t text)").execute()
    conn.sql("INSERT INTO a VALUES (:id, :t)", {"id": 1, "t": "it's 100% :t"}).execute()
    conn.sql("INSERT INTO a VALUES (:id, ':t %s')", {"id": 2}).execute()
    found = conn.sql('SELECT t AS ":id" FROM a WHERE id >= :id -- :id\n/* :id */ ORDER BY id', {"id": 1}).execute()
    assert found.data == [{":id": "it's 100% :t"}, {":id": ":t %s"}]
    assert conn.sql("SELECT CAST(:n AS text) || :n AS twice", {"n": "ab"}).execute().data == [{"twice": "abab"}]


def test_named_parameters_leave_casts_slices_and_dollar_quotes_alone(pg: Any) -> None:
    found = pg.sql(
        "SELECT :text::text AS t, (ARRAY[1,2,3])[1:n] AS s, $q$:text$q$ AS q, E'\\':text' AS e, 5 % 3 AS m"
        " FROM (SELECT 2 AS n) x",
        {"text": "v"},
    ).execute()
    assert found.data == [{"t": "v", "s": [1, 2], "q": ":text", "e": "':text", "m": 2}]


def test_positional_parameters_use_the_drivers_marks(conn: Any) -> None:
    mark = "%s" if conn.dialect == "postgresql" else "?"
    assert conn.sql(f"SELECT {mark} AS a, {mark} AS b", ["x", 2]).execute().data == [{"a": "x", "b": 2}]


def test_parameters_belong_to_one_statement(conn: Any) -> None:
    with pytest.raises(ScriptCallError, match="this text has 2"):
        conn.sql("SELECT :a; SELECT :a", {"a": 1}).execute()
    with pytest.raises(ScriptCallError, match="'b' does not occur"):
        conn.sql("SELECT :a", {"a": 1, "b": 2}).execute()
    with pytest.raises(ScriptCallError, match="params is a text"):
        conn.sql("SELECT :a", "a").execute()
    assert conn.progress.number == 0


def test_values_that_drivers_do_not_take_by_themselves(conn: Any) -> None:
    key, moment = uuid.UUID(int=7), datetime(2024, 5, 6, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    table = sa.Table(
        "v",
        sa.MetaData(),
        sa.Column("u", sa.Uuid),
        sa.Column("d", sa.DateTime(timezone=True)),
        sa.Column("n", sa.Numeric(20, 10, asdecimal=False)),
        sa.Column("j", sa.JSON),
    )
    conn.execute(sa.schema.CreateTable(table))
    values = {"u": key, "d": moment, "n": Decimal("0.1234567890"), "j": {"ü": [1, None]}}
    conn.sql("INSERT INTO v VALUES (:u, :d, :n, :j)", values).execute()
    conn.table("v").insert(values).execute()
    assert conn.table("v").select("*").eq("u", key).eq("d", moment).execute().data != []
    for row in conn.execute(sa.select(table)).mappings():  # as the host's models would read it
        assert row["u"] == key
        read = row["d"] if row["d"].tzinfo else row["d"].replace(tzinfo=UTC)
        assert read == moment
        assert row["n"] == pytest.approx(0.123456789)
        assert row["j"] == {"ü": [1, None]}


# --- progress


def test_progress_names_the_failing_statement(conn: Any) -> None:
    conn.sql("CREATE TABLE a (id integer);\nINSERT INTO a VALUES (1)").execute()
    with pytest.raises(sa.exc.DBAPIError):
        conn.sql("SELECT 1;\n\n  SELECT *\nFROM nowhere;\nSELECT 2").execute()
    p = conn.progress
    assert (p.number, p.count, p.line, p.text) == (4, 5, 3, "SELECT *\nFROM nowhere")
    assert "SELECT 1;\n\n  SELECT *"[p.offset :] == "SELECT *"


def test_a_file_counts_its_own_lines(conn: Any) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        conn.run_script("CREATE TABLE a (id integer);\nSELECT * FROM nowhere;", first_line=10)
    assert (conn.progress.number, conn.progress.count, conn.progress.line) == (2, 2, 11)


def test_a_file_can_be_taken_up_where_it_stopped(database: Any, open_migration: Open) -> None:
    reports: list[StatementReport] = []
    conn = open_migration(database, on_statement=reports.append).conn
    conn.run_script("SELECT * FROM nowhere;\nCREATE TABLE a (id integer);\nINSERT INTO a VALUES (3)", done=1)
    assert [(r.number, r.count, r.line) for r in reports] == [(2, 3, 2), (3, 3, 3)]
    assert conn.sql("SELECT id FROM a").execute().data == [{"id": 3}]


def test_every_way_to_send_is_counted_and_reported(database: Any, open_migration: Open) -> None:
    reports: list[StatementReport] = []
    conn = open_migration(database, on_statement=reports.append).conn
    conn.sql("CREATE TABLE a (id integer, t text);\nSELECT 1").execute()
    conn.table("a").insert({"id": 1}).execute()
    conn.op.add_column("a", sa.Column("extra", sa.Integer))
    conn.execute(sa.text("SELECT 2"))
    conn.connection.exec_driver_sql("SELECT 3")
    conn.sql("SELECT :n", {"n": 4}).execute()
    assert conn.rpc("has_table", {"table_name": "a"}).execute().data == [True]  # asked by the tool, not by the script
    assert [r.number for r in reports] == list(range(1, 8)) == list(range(1, conn.progress.number + 1))
    assert [(r.count, r.line) for r in reports] == [(2, 1), (2, 2), *[(None, None)] * 4, (7, 1)]
    assert reports[2].text.startswith("INSERT INTO a")
    assert reports[3].text.startswith("ALTER TABLE a")
    assert all(r.duration_ms >= 0 for r in reports)


def test_a_server_position_is_only_usable_where_the_text_is_the_scripts_own(conn: Any) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        conn.sql("SELECT nothing FROM nowhere WHERE a = :a", {"a": 1}).execute()
    assert conn.progress.text.startswith("SELECT nothing")
    assert conn.progress.offset is None


# --- very many statements


MANY = "\n".join(f"INSERT INTO a VALUES ({n}) -- row {n};\n;" for n in range(600))


def test_many_statements_travel_together_and_are_reported_one_by_one(database: Any, open_migration: Open) -> None:
    reports: list[StatementReport] = []
    migration = open_migration(database, on_statement=reports.append)
    sent: list[str] = []
    sa.event.listen(migration.connection, "before_cursor_execute", lambda *a: sent.append(a[2]))
    conn = migration.conn
    conn.sql("CREATE TABLE a (id integer)").execute()
    sent.clear()
    conn.run_script(MANY)
    assert len(sent) == (3 if database.is_postgresql else 600)
    assert [(r.number, r.line) for r in reports[1:]] == [(n + 2, 2 * n + 1) for n in range(600)]
    assert {r.count for r in reports[1:]} == {601}
    assert conn.sql("SELECT count(*) AS n FROM a").execute().data == [{"n": 600}]


@pytest.mark.parametrize("fault", ["INSERT INTO nowhere VALUES (1)", "SELEC 1", "INSERT INTO a VALUES ('x', 1)"])
def test_the_failing_one_of_many_is_found(conn: Any, fault: str) -> None:
    conn.sql("CREATE TABLE a (id integer)").execute()
    lines = [f"INSERT INTO a VALUES ({n});" for n in range(700)]
    lines[650] = f"{fault};"
    with pytest.raises(sa.exc.DBAPIError) as error:
        conn.run_script("\n".join(lines))
    p = conn.progress
    assert (p.number, p.count, p.line, p.text) == (652, 701, 651, fault)
    assert error.value.statement == fault
    assert conn.failed is error.value


def test_savepoints_between_many_statements(conn: Any) -> None:
    conn.sql("CREATE TABLE a (id integer)").execute()
    more = MANY.replace("(300)", "(300); SAVEPOINT s; INSERT INTO a VALUES (-1); ROLLBACK TO s; RELEASE s")
    conn.run_script(more)
    assert conn.sql("SELECT count(*) AS n, min(id) AS low FROM a").execute().data == [{"n": 600, "low": 0}]


def test_a_cancelled_message_is_not_sent_again(pg: Any) -> None:
    pg.sql("CREATE TABLE a (id integer); SET LOCAL statement_timeout = 200").execute()
    with pytest.raises(sa.exc.DBAPIError, match="statement timeout"):
        pg.run_script(MANY.replace("VALUES (300)", "SELECT 300 FROM pg_sleep(5)"))
    assert pg.progress.text is None
    assert pg.failed is not None


def test_outside_a_transaction_each_statement_travels_alone(database: Any, open_migration: Open) -> None:
    migration = open_migration(database, transactional=False)
    migration.conn.sql("CREATE TABLE a (id integer)").execute()
    with pytest.raises(sa.exc.DBAPIError):
        migration.conn.run_script(MANY.replace("(550)", "(550, 'too many')"))
    assert database.query("SELECT count(*) FROM a") == [(550,)]


# --- what cannot run is refused before anything runs


def test_copy_from_stdin_is_loaded(pg: Any) -> None:
    pg.run_script("CREATE TABLE a (id integer, t text);\nCOPY a FROM stdin;\n1\tü %s\n2\t\\N\n\\.\nSELECT 1;")
    assert pg.sql("SELECT * FROM a ORDER BY id").execute().data == [{"id": 1, "t": "ü %s"}, {"id": 2, "t": None}]


def test_an_error_inside_copy_is_told_like_any_other(pg: Any) -> None:
    pg.sql("CREATE TABLE a (id integer)").execute()
    with pytest.raises(sa.exc.DataError) as error:
        pg.run_script("SELECT 1;\nCOPY a FROM stdin;\n1\nx\n\\.\n")
    assert (pg.progress.number, pg.progress.line) == (3, 2)
    assert dialect_for(pg.connection.engine).complaint(error.value).code == "22P02"
    assert pg.failed is error.value


def test_a_copy_without_its_rows_is_refused(pg: Any) -> None:
    with pytest.raises(ScriptError, match="do not start on the line after") as error:
        pg.run_script("CREATE TABLE a (id integer);\nCOPY a FROM stdin; SELECT 1;")
    assert error.value.line == 2
    assert pg.progress.number == 0


def test_pg_dumps_own_fence_is_passed_over(pg: Any) -> None:
    pg.run_script("\\restrict abc\nCREATE TABLE a (id integer);\n\\unrestrict abc\n")
    assert pg.progress.count == 1


@pytest.mark.parametrize(
    ("command", "name", "cure"),
    [
        ("\\connect other", "\\connect", "configuration"),
        ("\\i more.sql", "\\i", "included file"),
        ("\\copy a from 'b.csv'", "\\copy", "COPY … FROM STDIN"),
        ("\\timing on", "\\timing", "Only SQL"),
    ],
)
def test_commands_of_psql_are_refused_by_name_and_line(pg: Any, command: str, name: str, cure: str) -> None:
    with pytest.raises(ScriptError) as error:
        pg.run_script(f"CREATE TABLE a (id integer);\n{command}\n", first_line=5)
    assert error.value.message.startswith(f"{name} is a command of psql")
    assert cure in error.value.hint
    assert error.value.line == 6
    assert pg.rpc("has_table", {"table_name": "a"}).execute().data == [False]


def test_commands_of_the_sqlite_shell_are_refused(sqlite_database: Any, open_migration: Open) -> None:
    with pytest.raises(ScriptError, match=r"\.read is a command of the sqlite3 shell"):
        open_migration(sqlite_database).conn.sql("SELECT 1;\n.read other.sql\n").execute()


def test_nul_is_refused(conn: Any) -> None:
    with pytest.raises(ScriptError, match="NUL") as error:
        conn.run_script("SELECT 1;\nSELECT 'a\0b'")
    assert error.value.line == 2


def test_a_wrapper_around_the_whole_text_is_set_aside(database: Any, open_migration: Open) -> None:
    migration = open_migration(database)
    migration.conn.run_script("BEGIN;\nCREATE TABLE a (id integer);\nCOMMIT;")
    assert database.tables() == set()
    assert migration.conn.progress.count == 1
    migration.conn.sql("BEGIN; CREATE TABLE b (id integer); END;").execute()
    migration.conn.check()
    migration.commit()
    assert database.tables() == {"a", "b"}


@pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK", "BEGIN", "END", "COMMIT; BEGIN", "/* x */ commit work"])
def test_transaction_control_is_refused_before_anything_runs(conn: Any, word: str) -> None:
    with pytest.raises(ScriptGuardError, match="controls the migration's transaction itself") as error:
        conn.run_script(f"CREATE TABLE a (id integer);\n{word};\nSELECT 1", first_line=3)
    assert error.value.line == 4
    assert "transactional = False" in error.value.hint
    assert conn.violated is error.value
    assert conn.rpc("has_table", {"table_name": "a"}).execute().data == [False]


def test_two_phase_commit_is_refused(pg: Any) -> None:
    with pytest.raises(ScriptGuardError):
        pg.sql("PREPARE TRANSACTION 'x'").execute()


def test_a_plan_can_check_its_files_beforehand(database: Any) -> None:
    dialect = dialect_for(database.engine())
    check_text(dialect, "BEGIN; SELECT 1; COMMIT", transactional=True)
    check_text(dialect, "SELECT 1; COMMIT", transactional=False)
    with pytest.raises(ScriptGuardError) as error:
        check_text(dialect, "SELECT 1;\nCOMMIT", transactional=True, first_line=7)
    assert error.value.line == 8


def test_a_non_transactional_script_may_have_transactions_of_its_own(database: Any, open_migration: Open) -> None:
    conn = open_migration(database, transactional=False).conn
    conn.run_script("CREATE TABLE a (id integer); BEGIN; INSERT INTO a VALUES (1); ROLLBACK;")
    conn.sql("BEGIN; INSERT INTO a VALUES (2); COMMIT").execute()
    assert database.query("SELECT id FROM a") == [(2,)]


# --- the original design's scripts


def test_the_original_tracker_and_template_run_unchanged(conn: Any) -> None:
    assert _original_initialize(conn)
    assert _original_initialize(conn)
    conn.table("migrations").insert({"version": "001", "name": "initial_schema", "status": "applied"}).execute()
    rows = conn.table("migrations").select("*").order("version").execute()
    assert [(r["version"], r["status"]) for r in rows.data] == [("001", "applied")]
    conn.table("migrations").delete().eq("version", "001").execute()
    assert not conn.table("migrations").select("*").order("version").execute().data
    conn.check()


def _original_initialize(conn: Any) -> bool:
    result = conn.rpc("has_table", {"table_name": "migrations"}).execute()
    table_exists = result.data[0] if result.data else False
    if not table_exists:
        conn.sql("""
            CREATE TABLE migrations (
                id SERIAL PRIMARY KEY,
                version VARCHAR(50) NOT NULL,
                name VARCHAR(255) NOT NULL,
                applied_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
                status VARCHAR(50) DEFAULT 'applied'
            );
            CREATE UNIQUE INDEX migrations_version_idx ON migrations(version);
        """).execute()
    return True


def test_importing_the_connection_imports_no_alembic() -> None:
    code = "import sys, cryoprotect.migrations_ext.connection; print('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
