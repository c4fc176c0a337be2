"""The host's own migrations, on both databases: they end at the models, and each leaves nothing behind."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cryoprotect.database import Base
from cryoprotect.migrations_ext import MigrationFailed, apply_migrations, rollback_migrations
from cryoprotect.models import Molecule

from .conftest import ROOT, Database

SCRIPTS = ROOT / "migration_scripts"
VERSIONS = sorted(path.name.split("_")[0] for path in SCRIPTS.glob("[0-9]*_*"))


def apply(database: Database, target: str | None = None, environment: str = "development") -> list[str]:
    results = apply_migrations(
        conn=database.engine(), migrations_dir=SCRIPTS, target_version=target, environment=environment
    )
    return [result["version"] for result in results if result["status"] == "applied"]


def roll_back(database: Database, target: str = "0", environment: str = "development") -> list[str]:
    results = rollback_migrations(
        conn=database.engine(), migrations_dir=SCRIPTS, target_version=target, environment=environment
    )
    return [result["version"] for result in results if result["status"] == "rolled_back"]


def snapshot(database: Database) -> dict[str, Any]:
    """Everything that a reflection tells about the tables that are not the tool's own, and how many rows they have."""
    inspector = sa.inspect(database.engine())
    return {table: _reflected(inspector, table) | _rows(database, table) for table in database.own_tables()}


def _reflected(inspector: sa.Inspector, table: str) -> dict[str, Any]:
    columns = {
        column["name"]: (str(column["type"]), column["nullable"], _plain(column["default"]))
        for column in inspector.get_columns(table)
    }
    foreign_keys = {
        (key["name"], *key["constrained_columns"], key["referred_table"], key["options"].get("ondelete"))
        for key in inspector.get_foreign_keys(table)
    }
    return {
        "columns": columns,
        "primary key": inspector.get_pk_constraint(table),
        "foreign keys": foreign_keys,
        "unique": {(u["name"], *u["column_names"]) for u in inspector.get_unique_constraints(table)},
        "checks": {(c["name"], _plain(c["sqltext"])) for c in inspector.get_check_constraints(table)},
        "indexes": {(i["name"], i["unique"], *i["column_names"]) for i in inspector.get_indexes(table)},
    }


def _plain(expression: str | None) -> str | None:
    return None if expression is None else expression.strip("()").replace("(", "").replace(")", "").lower()


def _rows(database: Database, table: str) -> dict[str, int]:
    return {"rows": database.query(f"SELECT count(*) FROM {table}")[0][0]}


def without_rows(tables: dict[str, Any]) -> dict[str, Any]:
    return {name: {k: v for k, v in facts.items() if k != "rows"} for name, facts in tables.items()}


# The schema


def test_alembic_finds_no_difference_between_the_models_and_the_migrated_database(database: Database) -> None:
    apply(database)
    options = {
        "compare_type": True,
        "compare_server_default": _compare_server_default,
        "include_name": lambda name, kind, _: kind != "table" or not _is_the_tools(name),
    }
    with database.engine().connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def _is_the_tools(table: str) -> bool:
    return table == "migrations" or table.startswith("migrations_")


def _compare_server_default(*args: Any) -> bool | None:
    """Alembic asks PostgreSQL whether both defaults give the same value, which random ones never do."""
    _context, _inspected, _declared, inspected_default, _default, declared_default = args
    return False if inspected_default == declared_default else None


def test_the_migrated_schema_is_what_the_models_would_create(database: Database) -> None:
    """Names, types, defaults, keys with their rules, indexes and checks, which Alembic does not compare."""
    apply(database)
    migrated = without_rows(snapshot(database))
    roll_back(database)
    Base.metadata.create_all(database.engine())
    assert migrated == without_rows(snapshot(database))


def test_the_first_migration_is_the_schema_that_cryoprotect_began_with(database: Database) -> None:
    apply(database, "001")
    inspector = sa.inspect(database.engine())
    columns = {
        table: {c["name"]: (str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)}
        for table in ("molecules", "mixtures", "mixture_components")
    }
    key, moment = ("UUID", "TIMESTAMP") if database.is_postgresql else ("CHAR(32)", "DATETIME")
    times = {"created_at": (moment, True), "updated_at": (moment, True)}
    assert columns == {
        "molecules": {
            "id": (key, False),
            "name": ("VARCHAR(255)", False),
            "formula": ("VARCHAR(255)", True),
            "smiles": ("TEXT", True),
            **times,
        },
        "mixtures": {
            "id": (key, False),
            "name": ("VARCHAR(255)", False),
            "description": ("TEXT", True),
            **times,
        },
        "mixture_components": {
            "id": (key, False),
            "mixture_id": (key, True),
            "molecule_id": (key, True),
            "concentration": ("NUMERIC(10, 5)", True),
            "units": ("VARCHAR(50)", True),
            **times,
        },
    }
    if database.is_postgresql:
        created_at = next(c for c in inspector.get_columns("molecules") if c["name"] == "created_at")
        assert created_at["type"].timezone
    rules = {
        key["referred_table"]: key["options"]["ondelete"] for key in inspector.get_foreign_keys("mixture_components")
    }
    assert rules == {"mixtures": "CASCADE", "molecules": "RESTRICT"}


def test_every_foreign_key_stands_on_an_index(database: Database) -> None:
    apply(database)
    inspector = sa.inspect(database.engine())
    for table in database.own_tables():
        first_columns = {index["column_names"][0] for index in inspector.get_indexes(table)}
        first_columns |= {unique["column_names"][0] for unique in inspector.get_unique_constraints(table)}
        for key in inspector.get_foreign_keys(table):
            assert key["constrained_columns"][0] in first_columns, (table, key["name"])


# Rolling back


def test_each_migration_rolls_back_to_exactly_what_was_there_before(database: Database) -> None:
    previous = "0"
    for version in VERSIONS:
        before = snapshot(database)
        assert apply(database, version) == [version]
        assert snapshot(database) != before, f"{version} changes nothing"
        assert roll_back(database, previous) == [version]
        assert snapshot(database) == before, f"{version} leaves a trace"
        assert apply(database, version) == [version]
        previous = version


def test_rolling_back_everything_leaves_only_the_tools_own_tables(database: Database) -> None:
    assert apply(database) == VERSIONS
    assert roll_back(database) == VERSIONS[::-1]
    assert database.own_tables() == set()


def test_rebuilding_tables_keeps_the_rows_that_are_there(database: Database) -> None:
    """SQLite rebuilds the first tables; dropping a parent must not take its children with it."""
    apply(database, "003")
    database.execute("INSERT INTO molecules (id, name) VALUES ('00000000000000000000000000000001', 'Water')")
    database.execute("INSERT INTO mixtures (id, name) VALUES ('00000000000000000000000000000002', 'Brine')")
    database.execute(
        "INSERT INTO mixture_components (mixture_id, molecule_id, concentration, units) VALUES"
        " ('00000000000000000000000000000002', '00000000000000000000000000000001', 55.5, 'mol/L')"
    )
    database.execute("UPDATE molecules SET created_at = NULL, updated_at = NULL")
    apply(database, "005")
    roll_back(database, "003")
    counts = database.query(
        "SELECT count(*), count(molecules.created_at), count(molecules.updated_at) FROM mixture_components"
        " JOIN molecules ON molecules.id = molecule_id JOIN mixtures ON mixtures.id = mixture_id"
    )
    assert counts == [(1, 1, 1)]


def test_reference_data_that_is_in_use_is_not_taken_away(database: Database) -> None:
    apply(database, environment="production")
    database.execute("INSERT INTO mixtures (name) VALUES ('Ours')")
    database.execute(
        "INSERT INTO mixture_components (mixture_id, molecule_id)"
        " SELECT mixtures.id, molecules.id FROM mixtures CROSS JOIN molecules WHERE pubchem_cid = 753"
    )
    before = snapshot(database)
    with pytest.raises(MigrationFailed):
        roll_back(database, "005", environment="production")
    assert snapshot(database) == before


def test_a_rollback_of_the_samples_leaves_a_mixture_of_the_same_name_alone(database: Database) -> None:
    apply(database)
    database.execute("INSERT INTO mixtures (name, source) VALUES ('VS55', 'our own recipe')")
    roll_back(database, "006")
    assert database.query("SELECT name, source FROM mixtures") == [("VS55", "our own recipe")]


# The data


@pytest.fixture
def session(database: Database) -> Any:
    apply(database)
    with sa.orm.Session(database.engine()) as session:
        yield session


def test_reference_molecules_agree_with_themselves(session: sa.orm.Session) -> None:
    """Formula, molar mass and SMILES were published separately; each follows from the one after it."""
    molecules = session.scalars(sa.select(Molecule).where(Molecule.smiles.is_not(None))).all()
    assert len(molecules) >= 14
    for molecule in molecules:
        atoms = atoms_of_formula(molecule.formula)
        assert atoms == atoms_of_smiles(molecule.smiles), molecule.name
        mass = sum(ATOMIC_MASS[element] * count for element, count in atoms.items())
        assert float(molecule.molar_mass) == pytest.approx(mass, abs=0.02), molecule.name


def test_well_known_molecules_have_their_published_identity(session: sa.orm.Session) -> None:
    known = session.execute(sa.select(Molecule.pubchem_cid, Molecule.formula, Molecule.smiles)).all()
    assert {
        (679, "C2H6OS", "CS(=O)C"),
        (753, "C3H8O3", "C(C(CO)O)O"),
        (174, "C2H6O2", "C(CO)O"),
        (1030, "C3H8O2", "CC(CO)O"),
        (713, "CH3NO", "C(=O)N"),
    } <= {tuple(row) for row in known}


def test_polymers_claim_no_structure(session: sa.orm.Session) -> None:
    polymers = session.scalars(sa.select(Molecule).where(Molecule.smiles.is_(None))).all()
    assert {p.name for p in polymers} == {"Polyvinylpyrrolidone K12", "Supercool X-1000", "Supercool Z-1000"}
    assert all(p.pubchem_cid is None and p.molar_mass is None and p.description for p in polymers)


@pytest.mark.parametrize(
    ("mixture", "unit", "total"),
    [("VS55", "mol/L", 8.41), ("DP6", "mol/L", 6), ("M22", "% (w/v)", 64.8)],
)
def test_sample_mixtures_add_up_to_the_published_total(
    session: sa.orm.Session, mixture: str, unit: str, total: float
) -> None:
    components = session.execute(
        sa.text(
            "SELECT concentration, units FROM mixture_components"
            " JOIN mixtures ON mixtures.id = mixture_id WHERE mixtures.name = :name"
        ),
        {"name": mixture},
    ).all()
    assert {row.units for row in components} == {unit}
    assert float(sum(row.concentration for row in components)) == pytest.approx(total)


def test_production_gets_the_reference_data_and_no_samples(database: Database) -> None:
    assert "007" not in apply(database, environment="production")
    assert database.query("SELECT count(*) FROM mixtures") == [(0,)]
    assert database.query("SELECT name FROM molecules WHERE smiles IS NULL") == []
    assert database.query("SELECT count(*) FROM molecules")[0][0] >= 14


def test_each_way_to_write_a_migration_is_used() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in SCRIPTS.glob("[0-9]*_*")}
    assert any(name.endswith(".py") and "conn.op." in text for name, text in texts.items())
    assert any(name.endswith(".py") and 'conn.sql(\n        """' in text for name, text in texts.items())
    assert any(name.endswith(".sql") and "-- migrate:down" in text for name, text in texts.items())


ATOMIC_MASS = {"C": 12.011, "H": 1.008, "N": 14.007, "O": 15.999, "S": 32.06}
VALENCE = {"C": 4, "N": 3, "O": 2, "S": 4}  # sulfur as in a sulfoxide
ATOM = re.compile(r"\[(?P<charged>[A-Z])(?P<sign>[+-])\]|(?P<plain>[CNOS])|(?P<syntax>[()=])|(?P<ring>\d)")


def atoms_of_formula(formula: str) -> Counter[str]:
    return Counter({element: int(count or 1) for element, count in re.findall(r"([A-Z])(\d*)", formula)})


def atoms_of_smiles(smiles: str) -> Counter[str]:
    """Count atoms, hydrogens that a SMILES leaves out included; enough of the language for these molecules."""
    atoms: list[str] = []
    free: list[int] = []  # bonds that each atom has left
    branches: list[int] = []
    rings: dict[str, int] = {}
    last, order = None, 1

    def bond(one: int, other: int, order: int) -> None:
        free[one] -= order
        free[other] -= order

    position = 0
    while position < len(smiles):
        match = ATOM.match(smiles, position)
        assert match, f"cannot read {smiles!r} at {position}"
        position = match.end()
        token = match.group()
        if element := match["plain"] or match["charged"]:
            atoms.append(element)
            # [N+] bonds four times, [O-] once.
            free.append(VALENCE[element] + {"+": 1, "-": -1, None: 0}[match["sign"]])
            if last is not None:
                bond(last, len(atoms) - 1, order)
            last, order = len(atoms) - 1, 1
        elif token == "(":
            assert last is not None
            branches.append(last)
        elif token == ")":
            last = branches.pop()
        elif token == "=":
            order = 2
        elif token in rings:
            assert last is not None
            bond(rings.pop(token), last, 1)
        else:
            assert last is not None
            rings[token] = last
    assert not rings
    assert not branches
    assert min(free) >= 0
    return Counter(atoms) + Counter({"H": sum(free)})
