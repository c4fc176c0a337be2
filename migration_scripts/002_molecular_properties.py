"""Create property types and the properties of molecules.

A property type names what can be known, with its unit; a molecule has at most one accepted value of each.
"""

import sqlalchemy as sa


def apply(conn, environment):
    random_uuid = {
        "postgresql": sa.text("gen_random_uuid()"),
        "sqlite": sa.text("(lower(hex(randomblob(16))))"),
    }[conn.dialect]

    conn.op.create_table(
        "property_types",
        sa.Column("id", sa.Uuid(), server_default=random_uuid, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("unit", sa.String(50)),
        sa.Column("description", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="property_types_pkey"),
        sa.UniqueConstraint("name", name="property_types_name_key"),
    )
    conn.op.create_table(
        "molecular_properties",
        sa.Column("id", sa.Uuid(), server_default=random_uuid, nullable=False),
        sa.Column("molecule_id", sa.Uuid(), nullable=False),
        sa.Column("property_type_id", sa.Uuid(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("source", sa.String(255)),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="molecular_properties_pkey"),
        sa.ForeignKeyConstraint(
            ["molecule_id"],
            ["molecules.id"],
            name="molecular_properties_molecule_id_fkey",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["property_type_id"],
            ["property_types.id"],
            name="molecular_properties_property_type_id_fkey",
            ondelete="RESTRICT",
        ),
        # Also the index under molecule_id, its first column.
        sa.UniqueConstraint(
            "molecule_id", "property_type_id", name="molecular_properties_molecule_id_property_type_id_key"
        ),
    )
    conn.op.create_index("molecular_properties_property_type_id_idx", "molecular_properties", ["property_type_id"])


def rollback(conn, environment):
    conn.op.drop_table("molecular_properties")
    conn.op.drop_table("property_types")
