"""Create calculation methods, predictions and experiments.

A prediction is what one version of a method calculates for a property of a mixture, so there is one of each; an
experiment is what somebody measured, and may be repeated.
"""

import sqlalchemy as sa


def apply(conn, environment):
    random_uuid = {
        "postgresql": sa.text("gen_random_uuid()"),
        "sqlite": sa.text("(lower(hex(randomblob(16))))"),
    }[conn.dialect]

    conn.op.create_table(
        "calculation_methods",
        sa.Column("id", sa.Uuid(), server_default=random_uuid, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("version", sa.String(50), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="calculation_methods_pkey"),
        sa.UniqueConstraint("name", "version", name="calculation_methods_name_version_key"),
    )

    conn.op.create_table(
        "predictions",
        sa.Column("id", sa.Uuid(), server_default=random_uuid, nullable=False),
        sa.Column("mixture_id", sa.Uuid(), nullable=False),
        sa.Column("property_type_id", sa.Uuid(), nullable=False),
        sa.Column("calculation_method_id", sa.Uuid(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("uncertainty", sa.Double()),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="predictions_pkey"),
        sa.ForeignKeyConstraint(
            ["mixture_id"], ["mixtures.id"], name="predictions_mixture_id_fkey", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["property_type_id"],
            ["property_types.id"],
            name="predictions_property_type_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["calculation_method_id"],
            ["calculation_methods.id"],
            name="predictions_calculation_method_id_fkey",
            ondelete="RESTRICT",
        ),
        # Also the index under mixture_id, its first column.
        sa.UniqueConstraint(
            "mixture_id",
            "property_type_id",
            "calculation_method_id",
            name="predictions_mixture_property_method_key",
        ),
        sa.CheckConstraint("uncertainty >= 0", name="predictions_uncertainty_check"),
    )
    conn.op.create_index("predictions_property_type_id_idx", "predictions", ["property_type_id"])
    conn.op.create_index("predictions_calculation_method_id_idx", "predictions", ["calculation_method_id"])

    conn.op.create_table(
        "experiments",
        sa.Column("id", sa.Uuid(), server_default=random_uuid, nullable=False),
        sa.Column("mixture_id", sa.Uuid(), nullable=False),
        sa.Column("property_type_id", sa.Uuid(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("uncertainty", sa.Double()),
        sa.Column("conditions", sa.Text()),
        sa.Column("performed_on", sa.Date()),
        sa.Column("source", sa.String(255)),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="experiments_pkey"),
        sa.ForeignKeyConstraint(
            ["mixture_id"], ["mixtures.id"], name="experiments_mixture_id_fkey", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["property_type_id"],
            ["property_types.id"],
            name="experiments_property_type_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.CheckConstraint("uncertainty >= 0", name="experiments_uncertainty_check"),
    )
    conn.op.create_index("experiments_mixture_id_idx", "experiments", ["mixture_id"])
    conn.op.create_index("experiments_property_type_id_idx", "experiments", ["property_type_id"])


def rollback(conn, environment):
    conn.op.drop_table("experiments")
    conn.op.drop_table("predictions")
    conn.op.drop_table("calculation_methods")
