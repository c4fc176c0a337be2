"""`conn.op`: Alembic's operations, with one name for a constraint on both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

Open = Callable[..., Any]


@pytest.fixture
def migration(database: Any, open_migration: Open) -> Any:
    return open_migration(database)


def test_portable_ddl(database: Any, migration: Any) -> None:
    op = migration.conn.op
    assert migration.conn.op is op
    assert op.get_bind() is migration.connection
    op.create_table("a", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(50), unique=True))
    op.add_column("a", sa.Column("extra", sa.Integer))
    op.create_index("a_extra", "a", ["extra"])
    op.bulk_insert(sa.table("a", sa.column("id"), sa.column("name")), [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}])
    op.rename_table("a", "b")
    op.execute("UPDATE b SET extra = 5")
    migration.conn.check()
    assert database.tables() == set()
    migration.commit()
    assert database.query("SELECT id, name, extra FROM b ORDER BY id") == [(1, "x", 5), (2, "y", 5)]


def _names(migration: Any, table: str) -> dict[str, set[Any]]:
    inspector = sa.inspect(migration.connection)
    return {
        "pk": {inspector.get_pk_constraint(table)["name"]},
        "uq": {c["name"] for c in inspector.get_unique_constraints(table)},
        "fk": {c["name"] for c in inspector.get_foreign_keys(table)},
        "ix": {i["name"] for i in inspector.get_indexes(table) if not i.get("duplicates_constraint")},
    }


def test_constraints_have_the_names_that_postgresql_would_give(migration: Any) -> None:
    conn = migration.conn
    conn.sql("CREATE TABLE b (id integer PRIMARY KEY)").execute()
    conn.op.create_table(
        "a",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("x", sa.Integer),
        sa.Column("y", sa.Integer),
        sa.Column("b_id", sa.Integer, sa.ForeignKey("b.id"), index=True),
        sa.UniqueConstraint("x", "y"),
    )
    names = _names(migration, "a")
    assert names == {"pk": {"a_pkey"}, "uq": {"a_x_y_key"}, "fk": {"a_b_id_fkey"}, "ix": {"ix_a_b_id"}}
    if conn.dialect == "postgresql":
        conn.sql("""
            DROP TABLE a;
            CREATE TABLE a (
                id integer PRIMARY KEY, x integer, y integer, b_id integer REFERENCES b, UNIQUE (x, y)
            );
        """).execute()
        assert _names(migration, "a") == {**names, "ix": set()}


def test_batch_mode_changes_a_table_with_its_rows(database: Any, migration: Any) -> None:
    conn = migration.conn
    conn.sql("""
        CREATE TABLE b (id integer PRIMARY KEY);
        CREATE TABLE a (id integer PRIMARY KEY, name text, old integer, b_id integer REFERENCES b, UNIQUE (name));
        INSERT INTO b VALUES (1); INSERT INTO a VALUES (1, 'x', 5, 1);
    """).execute()
    with conn.op.batch_alter_table("a") as batch:
        batch.alter_column("name", nullable=False, new_column_name="title")
        batch.drop_column("old")
        batch.drop_constraint("a_name_key", type_="unique")
        batch.drop_constraint("a_b_id_fkey", type_="foreignkey")
        batch.add_column(sa.Column("score", sa.Integer, server_default="7"))
    with conn.op.batch_alter_table("a") as batch:
        batch.create_unique_constraint("a_title_score_key", ["title", "score"])
    conn.check()
    migration.commit()
    assert database.query("SELECT id, title, b_id, score FROM a") == [(1, "x", 1, 7)]
    inspector = sa.inspect(database.engine())
    assert [c["name"] for c in inspector.get_unique_constraints("a")] == ["a_title_score_key"]
    assert inspector.get_foreign_keys("a") == []


def test_an_error_inside_batch_mode_leaves_nothing(database: Any, migration: Any) -> None:
    conn = migration.conn
    with pytest.raises(Exception, match="nowhere"), conn.op.batch_alter_table("nowhere") as batch:
        batch.add_column(sa.Column("score", sa.Integer))
    conn.release()
    migration.connection.exec_driver_sql("ROLLBACK")
    assert database.tables() == set()
