"""Make the first three tables refuse what makes no sense.

A component belongs to a mixture and to a molecule, once, with a concentration that is not negative; every row says
when it was made and changed. SQLite cannot alter a column, so Alembic's batch mode rebuilds the table there; on
PostgreSQL the same lines are plain ALTER TABLE.
"""

import sqlalchemy as sa

FIRST_TABLES = ("molecules", "mixtures", "mixture_components")


def apply(conn, environment):
    for table in FIRST_TABLES:
        # A row whose times were set to NULL by hand counts as made now.
        conn.sql(f"UPDATE {table} SET created_at = CURRENT_TIMESTAMP WHERE created_at IS NULL").execute()
        conn.sql(f"UPDATE {table} SET updated_at = created_at WHERE updated_at IS NULL").execute()
        with conn.op.batch_alter_table(table) as batch:
            batch.alter_column("created_at", existing_type=sa.DateTime(timezone=True), nullable=False)
            batch.alter_column("updated_at", existing_type=sa.DateTime(timezone=True), nullable=False)

    with conn.op.batch_alter_table("mixture_components") as batch:
        batch.alter_column("mixture_id", existing_type=sa.Uuid(), nullable=False)
        batch.alter_column("molecule_id", existing_type=sa.Uuid(), nullable=False)
        batch.create_check_constraint("mixture_components_concentration_check", "concentration >= 0")
        # Also the index under mixture_id, its first column.
        batch.create_unique_constraint("mixture_components_mixture_id_molecule_id_key", ["mixture_id", "molecule_id"])
    conn.op.create_index("mixture_components_molecule_id_idx", "mixture_components", ["molecule_id"])


def rollback(conn, environment):
    conn.op.drop_index("mixture_components_molecule_id_idx", "mixture_components")
    with conn.op.batch_alter_table("mixture_components", table_args=_unseen_checks(conn)) as batch:
        batch.drop_constraint("mixture_components_mixture_id_molecule_id_key", type_="unique")
        batch.drop_constraint("mixture_components_concentration_check", type_="check")
        batch.alter_column("mixture_id", existing_type=sa.Uuid(), nullable=True)
        batch.alter_column("molecule_id", existing_type=sa.Uuid(), nullable=True)

    for table in reversed(FIRST_TABLES):
        with conn.op.batch_alter_table(table) as batch:
            batch.alter_column("created_at", existing_type=sa.DateTime(timezone=True), nullable=True)
            batch.alter_column("updated_at", existing_type=sa.DateTime(timezone=True), nullable=True)


def _unseen_checks(conn):
    """Return the CHECK constraint for batch mode to drop, unless SQLAlchemy sees it by itself, as it does from 2.1."""
    check = sa.CheckConstraint("concentration >= 0", name="mixture_components_concentration_check")
    table = sa.Table("mixture_components", sa.MetaData(), autoload_with=conn.connection, resolve_fks=False)
    return () if check.name in {constraint.name for constraint in table.constraints} else (check,)
