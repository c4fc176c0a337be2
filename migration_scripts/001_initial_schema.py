"""Create molecules, mixtures and the components of mixtures.

The schema that CryoProtect began with. Only the type of a key and its random default differ between the databases;
SQLite stores a UUID as 32 hexadecimal digits, and UTC time without a zone.
"""

TYPES = {
    "postgresql": {
        "uuid": "UUID",
        "random": "gen_random_uuid()",
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "now": "NOW()",
    },
    "sqlite": {
        "uuid": "CHAR(32)",
        "random": "(lower(hex(randomblob(16))))",
        "timestamp": "DATETIME",
        "now": "CURRENT_TIMESTAMP",
    },
}


def apply(conn, environment):
    conn.sql(
        """
        CREATE TABLE molecules (
            id {uuid} NOT NULL DEFAULT {random},
            name VARCHAR(255) NOT NULL,
            formula VARCHAR(255),
            smiles TEXT,
            created_at {timestamp} DEFAULT {now},
            updated_at {timestamp} DEFAULT {now},
            CONSTRAINT molecules_pkey PRIMARY KEY (id)
        );

        CREATE TABLE mixtures (
            id {uuid} NOT NULL DEFAULT {random},
            name VARCHAR(255) NOT NULL,
            description TEXT,
            created_at {timestamp} DEFAULT {now},
            updated_at {timestamp} DEFAULT {now},
            CONSTRAINT mixtures_pkey PRIMARY KEY (id)
        );

        CREATE TABLE mixture_components (
            id {uuid} NOT NULL DEFAULT {random},
            mixture_id {uuid},
            molecule_id {uuid},
            concentration NUMERIC(10, 5),
            units VARCHAR(50),
            created_at {timestamp} DEFAULT {now},
            updated_at {timestamp} DEFAULT {now},
            CONSTRAINT mixture_components_pkey PRIMARY KEY (id),
            CONSTRAINT mixture_components_mixture_id_fkey
                FOREIGN KEY (mixture_id) REFERENCES mixtures (id) ON DELETE CASCADE,
            CONSTRAINT mixture_components_molecule_id_fkey
                FOREIGN KEY (molecule_id) REFERENCES molecules (id) ON DELETE RESTRICT
        );
        """.format(**TYPES[conn.dialect])
    ).execute()


def rollback(conn, environment):
    conn.sql(
        """
        DROP TABLE mixture_components;
        DROP TABLE mixtures;
        DROP TABLE molecules;
        """
    ).execute()
