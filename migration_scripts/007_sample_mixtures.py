"""Add well-known vitrification solutions from the literature, to develop and test with.

Not for production, where mixtures are what its users enter. Molecules are found by their compound id at PubChem. The
polymers of M22 have none and no single structure; they come and go with the mixture that contains them.
"""

environments = ("development", "testing", "staging")

DMSO, GLYCEROL, ETHYLENE_GLYCOL, PROPYLENE_GLYCOL = 679, 753, 174, 1030
FORMAMIDE, N_METHYLFORMAMIDE, SUCROSE = 713, 31254, 5988

# Only this script needs them, and no compound id is known for certain.
OTHER_MOLECULES = [
    {
        "name": "3-Methoxy-1,2-propanediol",
        "formula": "C4H10O3",
        "molar_mass": 106.12,
        "smiles": "COCC(CO)O",
        "description": "A component of M22.",
    },
    {
        "name": "Polyvinylpyrrolidone K12",
        "formula": "(C6H9NO)n",
        "molar_mass": None,
        "smiles": None,
        "description": "A polymer with chains of different length, so without one structure or molar mass.",
    },
    {
        "name": "Supercool X-1000",
        "formula": None,
        "molar_mass": None,
        "smiles": None,
        "description": "An ice blocker: a copolymer of vinyl alcohol and vinyl acetate.",
    },
    {
        "name": "Supercool Z-1000",
        "formula": None,
        "molar_mass": None,
        "smiles": None,
        "description": "An ice blocker: polyglycerol.",
    },
]

MIXTURES = [
    {
        "name": "VS55",
        "description": "8.4 mol/L in Euro-Collins; veins vitrified with it kept their function.",
        "source": "Song et al., Nature Biotechnology 18:296 (2000)",
        "components": [
            (DMSO, 3.10, "mol/L"),
            (FORMAMIDE, 3.10, "mol/L"),
            (PROPYLENE_GLYCOL, 2.21, "mol/L"),
        ],
        "measured": {"Critical cooling rate": 2.5, "Critical warming rate": 50},
    },
    {
        "name": "DP6",
        "description": "6 mol/L in Euro-Collins; like VS55, but without formamide.",
        "source": "Eisenberg, Taylor, Rabin, Cryobiology 65:117 (2012)",
        "components": [(DMSO, 3, "mol/L"), (PROPYLENE_GLYCOL, 3, "mol/L")],
        "measured": {"Critical cooling rate": 40, "Critical warming rate": 189},
    },
    {
        "name": "M22",
        "description": "9.3 mol/L in LM5; made for kidneys, to be used at 22 °C below zero.",
        "source": "Fahy et al., Organogenesis 5:167 (2009)",
        "components": [
            (DMSO, 22.305, "% (w/v)"),
            (FORMAMIDE, 12.858, "% (w/v)"),
            (ETHYLENE_GLYCOL, 16.837, "% (w/v)"),
            (N_METHYLFORMAMIDE, 3, "% (w/v)"),
            ("3-Methoxy-1,2-propanediol", 4, "% (w/v)"),
            ("Polyvinylpyrrolidone K12", 2.8, "% (w/v)"),
            ("Supercool X-1000", 1, "% (w/v)"),
            ("Supercool Z-1000", 2, "% (w/v)"),
        ],
        "measured": {"Critical cooling rate": 0.1, "Critical warming rate": 0.4},
    },
    {
        "name": "PVS2",
        "description": "In the culture medium of the plant; widely used for shoot tips.",
        "source": "Sakai, Kobayashi, Oiyama, Plant Cell Reports 9:30 (1990)",
        "components": [
            (GLYCEROL, 30, "% (w/v)"),
            (ETHYLENE_GLYCOL, 15, "% (w/v)"),
            (DMSO, 15, "% (w/v)"),
            (SUCROSE, 0.4, "mol/L"),
        ],
        "measured": {},
    },
]


def apply(conn, environment):
    molecules = _ids_of_published_molecules(conn) | _insert_other_molecules(conn)
    rows = conn.table("property_types").select("id, name").execute().data
    property_types = {row["name"]: row["id"] for row in rows}

    for mixture in MIXTURES:
        columns = {key: mixture[key] for key in ("name", "description", "source")}
        mixture_id = conn.table("mixtures").insert(columns).execute().data[0]["id"]
        components = [
            {
                "mixture_id": mixture_id,
                "molecule_id": molecules[molecule],
                "concentration": concentration,
                "units": units,
            }
            for molecule, concentration, units in mixture["components"]
        ]
        conn.table("mixture_components").insert(components).execute()
        experiments = [
            {
                "mixture_id": mixture_id,
                "property_type_id": property_types[name],
                "value": value,
                "source": "Han, Bischof, CryoLetters 41:185 (2020)",
            }
            for name, value in mixture["measured"].items()
        ]
        if experiments:
            conn.table("experiments").insert(experiments).execute()


def rollback(conn, environment):
    # A sample is known by name and source, so that nobody's own mixture of the same name goes with it.
    for mixture in MIXTURES:
        found = conn.table("mixtures").select("id").eq("name", mixture["name"]).eq("source", mixture["source"])
        for row in found.execute().data:
            # Children first, by hand: SQLite does not cascade while a migration runs.
            for table in ("predictions", "experiments", "mixture_components"):
                conn.table(table).delete().eq("mixture_id", row["id"]).execute()
            conn.table("mixtures").delete().eq("id", row["id"]).execute()
    for molecule in OTHER_MOLECULES:
        conn.table("molecules").delete().eq("name", molecule["name"]).execute()


def _ids_of_published_molecules(conn):
    used = {molecule for mixture in MIXTURES for molecule, _, _ in mixture["components"]}
    cids = sorted(molecule for molecule in used if isinstance(molecule, int))
    rows = conn.table("molecules").select("id, pubchem_cid").in_("pubchem_cid", cids).execute().data
    return {row["pubchem_cid"]: row["id"] for row in rows}


def _insert_other_molecules(conn):
    rows = conn.table("molecules").insert(OTHER_MOLECULES).execute().data
    return {row["name"]: row["id"] for row in rows}
