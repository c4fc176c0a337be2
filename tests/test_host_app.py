"""The host app: its configuration, its pages and JSON on both databases, and what is shown where there is no answer."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import IntegrityError, InvalidRequestError, StatementError

from cryoprotect import create_app
from cryoprotect.config import CONFIGS, ConfigError, configure, database_url
from cryoprotect.database import db
from cryoprotect.migrations_ext import apply_migrations, rollback_migrations
from cryoprotect.models import (
    CalculationMethod,
    Experiment,
    Mixture,
    MixtureComponent,
    MolecularProperty,
    Molecule,
    Prediction,
    PropertyType,
)
from cryoprotect.views import formula_html, number_text

from .conftest import ROOT, Database

SCRIPTS = ROOT / "migration_scripts"


@pytest.fixture
def empty_host(database: Database) -> Flask:
    """The host over an empty database."""
    return create_app(
        "testing", SQLALCHEMY_DATABASE_URI=database.url, SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool}
    )


@pytest.fixture
def host(empty_host: Flask, database: Database) -> Flask:
    """The host over a migrated database."""
    apply_migrations(conn=database.engine(), migrations_dir=SCRIPTS, environment="testing")
    return empty_host


@pytest.fixture
def browser(host: Flask) -> FlaskClient:
    return host.test_client()


@pytest.fixture
def find(browser: FlaskClient) -> Callable[[str, str], str]:
    """Return the id of a molecule or mixture by its name: `find("mixtures", "VS55")`."""

    def _find(kind: str, name: str) -> str:
        return next(item["id"] for item in browser.get(f"/api/{kind}").json["items"] if item["name"] == name)

    return _find


# Configuration


@pytest.fixture
def bare_app(tmp_path: Path) -> Flask:
    return Flask("bare", instance_path=str(tmp_path / "deep" / "instance"))


def test_importing_the_package_loads_neither_flask_nor_anything_of_ours() -> None:
    """The commands' entry point lives in this package, and every Flask app's every command imports it."""
    program = (
        "import sys; before = set(sys.modules); import cryoprotect;"
        "print([m for m in set(sys.modules) - before if m.startswith(('flask', 'sqlalchemy', 'cryoprotect.'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_without_a_word_it_is_development(bare_app: Flask) -> None:
    configure(bare_app, None, {})
    assert bare_app.config["DB_MIGRATE_ENVIRONMENT"] == "development"


@pytest.mark.parametrize(
    ("argument", "variables", "expected"),
    [
        ("testing", {"DB_MIGRATE_ENVIRONMENT": "staging"}, "testing"),
        (None, {"DB_MIGRATE_ENVIRONMENT": "testing", "CRYOPROTECT_ENV": "staging"}, "testing"),
        (None, {"CRYOPROTECT_ENV": "testing"}, "testing"),
        (None, {"DB_MIGRATE_ENVIRONMENT": "", "CRYOPROTECT_ENV": "testing"}, "testing"),
    ],
)
def test_argument_then_variables_name_the_environment(
    bare_app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    variables: dict[str, str],
    expected: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    configure(bare_app, argument, {})
    assert bare_app.config["DB_MIGRATE_ENVIRONMENT"] == expected


def test_every_environment_says_its_name_to_the_migrations(bare_app: Flask) -> None:
    assert list(CONFIGS) == ["development", "testing", "staging", "production"]
    for environment in CONFIGS:
        configure(bare_app, environment, {"SQLALCHEMY_DATABASE_URI": "sqlite:///:memory:"})
        assert bare_app.config["DB_MIGRATE_ENVIRONMENT"] == environment


def test_an_unknown_environment_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        create_app("prodution")
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == (
        "Unknown environment 'prodution'; known are development, testing, staging, production."
        " Did you mean 'production'?"
    )


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_outside_development_and_testing_a_database_must_be_named(environment: str) -> None:
    with pytest.raises(ConfigError, match=f"^DATABASE_URL is not set, and {environment} has no database"):
        create_app(environment)


def test_development_has_a_file_in_the_instance_folder(bare_app: Flask, tmp_path: Path) -> None:
    configure(bare_app, "development", {})
    path = Path(sa.make_url(bare_app.config["SQLALCHEMY_DATABASE_URI"]).database or "")
    assert path.is_absolute()
    assert path.parent == tmp_path / "deep" / "instance"
    assert path.parent.is_dir()


def test_an_instance_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    app = Flask("bare", instance_path=str(tmp_path / "file" / "instance"))
    with pytest.raises(ConfigError, match="make it writable or set DATABASE_URL"):
        configure(app, "development", {})


def test_testing_lives_in_memory(bare_app: Flask) -> None:
    configure(bare_app, "testing", {})
    assert bare_app.config["SQLALCHEMY_DATABASE_URI"] == "sqlite:///:memory:"
    assert bare_app.testing


def test_only_development_has_a_secret_key_by_itself(bare_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///:memory:")
    keys = {}
    for environment in CONFIGS:
        configure(bare_app, environment, {})
        keys[environment] = bare_app.config["SECRET_KEY"]
    assert keys.pop("development")
    assert set(keys.values()) == {None}
    monkeypatch.setenv("SECRET_KEY", "from outside")
    configure(bare_app, "production", {})
    assert bare_app.config["SECRET_KEY"] == "from outside"


def test_flask_variables_reach_the_settings_and_overrides_win(bare_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_DB_MIGRATE_ON_BOOT", "require")
    monkeypatch.setenv("FLASK_DB_MIGRATE_LOCK_WAIT", "5")
    configure(bare_app, "testing", {"DB_MIGRATE_LOCK_WAIT": 7})
    assert bare_app.config["DB_MIGRATE_ON_BOOT"] == "require"
    assert bare_app.config["DB_MIGRATE_LOCK_WAIT"] == 7


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://alice:s3cret@db/cryo", "postgresql+psycopg2://alice:s3cret@db/cryo"),
        ("postgresql://db/cryo?sslmode=require", "postgresql+psycopg2://db/cryo?sslmode=require"),
        ("postgresql+psycopg2://db/cryo", "postgresql+psycopg2://db/cryo"),
        (" sqlite:////data/cryo.sqlite\n", "sqlite:////data/cryo.sqlite"),
        (sa.make_url("postgresql://alice:s3cret@db/cryo"), "postgresql+psycopg2://alice:s3cret@db/cryo"),
    ],
)
def test_postgresql_urls_end_at_psycopg2(given: str | sa.URL, used: str) -> None:
    assert database_url(given) == used


@pytest.mark.parametrize(
    "given",
    [
        "alice:s3cret@db/cryo",
        "postgresql://alice:s3cret@db:port/cryo",
        "postgresql+asyncpg://alice:s3cret@db/cryo",
        "mysql://alice:s3cret@db/cryo",
    ],
)
def test_a_url_that_cannot_be_used_is_one_sentence_without_the_url(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("DATABASE_URL", given)
    with pytest.raises(ConfigError) as caught:
        create_app("production")
    assert "DATABASE_URL" in str(caught.value)
    for part in ("s3cret", "alice", "cryo"):
        assert f"{part}@" not in str(caught.value)
        assert part not in str(caught.value).removesuffix("sqlite://.").replace("CryoProtect", "")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_wrong_configuration_is_one_line_on_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "cryoprotect", "run"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"CRYOPROTECT_ENV": "production", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 2
    assert "DATABASE_URL is not set" in done.stderr
    assert "Traceback" not in done.stderr


# The database


def test_foreign_keys_are_enforced_on_the_hosts_connections(host: Flask) -> None:
    with host.app_context():
        db.session.add(MixtureComponent(mixture_id=uuid.uuid4(), molecule_id=uuid.uuid4()))
        with pytest.raises(IntegrityError):
            db.session.commit()
        db.session.rollback()


def test_engines_of_others_are_left_alone(host: Flask, sqlite_database: Database) -> None:
    assert sqlite_database.query("PRAGMA foreign_keys") == [(0,)]


def test_an_id_that_the_database_makes_is_one_that_the_models_read(host: Flask, database: Database) -> None:
    database.execute("INSERT INTO molecules (name) VALUES ('Made by SQL')")
    with host.app_context():
        made = db.session.scalars(sa.select(Molecule).where(Molecule.name == "Made by SQL")).one()
        assert isinstance(made.id, uuid.UUID)
        assert db.session.get(Molecule, made.id) is made


def test_times_are_aware_and_follow_changes(host: Flask, database: Database) -> None:
    with host.app_context():
        molecule = Molecule(name="Water")
        db.session.add(molecule)
        db.session.commit()
        now = datetime.now(UTC)
        assert abs(molecule.created_at - now) < timedelta(minutes=1)
        assert molecule.created_at.utcoffset() == timedelta(0)

        long_ago = datetime(2020, 2, 29, 12, tzinfo=UTC)
        molecule.created_at = molecule.updated_at = long_ago
        db.session.commit()
        molecule.name = "Heavy water"
        db.session.commit()
        assert molecule.created_at == long_ago
        assert molecule.updated_at > long_ago


def test_a_time_without_a_zone_is_refused(host: Flask) -> None:
    with host.app_context():
        db.session.add(Molecule(name="Water", created_at=datetime(2020, 1, 1)))
        with pytest.raises(StatementError, match="time zone"):
            db.session.commit()
        db.session.rollback()


def test_decimals_come_back_as_they_were_written(host: Flask) -> None:
    with host.app_context():
        molecule = Molecule(name="Water", molar_mass=Decimal("18.015"))
        mixture = Mixture(name="Ice")
        mixture.components.append(MixtureComponent(molecule=molecule, concentration=Decimal("12345.67891")))
        db.session.add(mixture)
        db.session.commit()
        db.session.expire_all()
        assert db.session.scalars(
            sa.select(MixtureComponent.concentration).where(MixtureComponent.mixture_id == mixture.id)
        ).one() == Decimal("12345.67891")
        assert molecule.molar_mass == Decimal("18.015")


@pytest.mark.parametrize(
    "make",
    [
        lambda water, ice, kind, method: MixtureComponent(mixture_id=ice.id, molecule_id=water.id, concentration=-1),
        lambda water, ice, kind, method: MixtureComponent(mixture_id=ice.id),
        lambda water, ice, kind, method: MolecularProperty(molecule_id=water.id, property_type_id=kind.id, value=2),
        lambda water, ice, kind, method: PropertyType(name="Colour"),
        lambda water, ice, kind, method: CalculationMethod(name="Guess", version="1"),
        lambda water, ice, kind, method: Prediction(
            mixture_id=ice.id,
            property_type_id=kind.id,
            calculation_method_id=method.id,
            value=1,
            uncertainty=-1,
        ),
        lambda water, ice, kind, method: Experiment(
            mixture_id=ice.id, property_type_id=kind.id, value=1, uncertainty=-1
        ),
        lambda water, ice, kind, method: Molecule(name="Not water", pubchem_cid=962),
        lambda water, ice, kind, method: Molecule(name="Nothing", molar_mass=0),
        lambda water, ice, kind, method: Molecule(name="No such compound", pubchem_cid=-1),
    ],
)
def test_the_database_refuses_what_makes_no_sense(host: Flask, make: Callable[..., Any]) -> None:
    with host.app_context():
        water, ice = Molecule(name="Water", pubchem_cid=962), Mixture(name="Ice")
        kind, method = PropertyType(name="Colour"), CalculationMethod(name="Guess", version="1")
        db.session.add_all([water, ice, kind, method])
        db.session.flush()
        db.session.add(MolecularProperty(molecule_id=water.id, property_type_id=kind.id, value=1))
        db.session.flush()
        db.session.add(make(water, ice, kind, method))
        with pytest.raises(IntegrityError):
            db.session.flush()
        db.session.rollback()


def test_a_mixture_takes_its_own_with_it_and_a_molecule_in_use_stays(host: Flask) -> None:
    with host.app_context():
        mixture = db.session.scalars(sa.select(Mixture).where(Mixture.name == "VS55")).one()
        formamide = db.session.scalars(sa.select(Molecule).where(Molecule.name == "Formamide")).one()
        db.session.execute(sa.delete(Mixture).where(Mixture.id == mixture.id))
        left = sa.select(sa.func.count(MixtureComponent.id)).where(MixtureComponent.mixture_id == mixture.id)
        assert db.session.scalar(left) == 0
        with pytest.raises(IntegrityError):
            db.session.execute(sa.delete(Molecule).where(Molecule.id == formamide.id))
        db.session.rollback()


def test_a_relationship_that_nobody_asked_for_is_an_error_and_no_hidden_query(host: Flask) -> None:
    with host.app_context():
        mixture = db.session.scalars(sa.select(Mixture).limit(1)).one()
        with pytest.raises(InvalidRequestError, match="raise"):
            _ = mixture.components


# Pages


def test_the_start_page_counts_and_leads_on(browser: FlaskClient) -> None:
    page = browser.get("/")
    assert page.status_code == 200
    assert "<strong>23</strong> molecules" in page.text
    assert "<strong>4</strong> mixtures" in page.text
    assert 'href="/molecules"' in page.text
    assert 'href="/mixtures"' in page.text


def test_the_molecules_are_listed_with_formula_and_molar_mass(browser: FlaskClient) -> None:
    page = browser.get("/molecules").text
    assert "Dimethyl sulfoxide (DMSO)" in page
    assert "C<sub>2</sub>H<sub>6</sub>OS" in page
    assert "78.14" in page
    assert page.index("Glycerol") < page.index("Trehalose")


def test_a_molecule_shows_its_properties_and_where_it_is_used(
    browser: FlaskClient, find: Callable[[str, str], str]
) -> None:
    page = browser.get(f"/molecules/{find('molecules', 'Dimethyl sulfoxide (DMSO)')}").text
    assert "<h1>Dimethyl sulfoxide (DMSO)</h1>" in page
    assert "CS(=O)C" in page
    assert "https://pubchem.ncbi.nlm.nih.gov/compound/679" in page
    assert "\N{MINUS SIGN}1.35" in page
    assert "17.89 °C" in page
    assert f'href="/mixtures/{find("mixtures", "VS55")}"' in page
    assert "3.1 mol/L" in page


def test_a_polymer_says_what_is_not_known(browser: FlaskClient, find: Callable[[str, str], str]) -> None:
    page = browser.get(f"/molecules/{find('molecules', 'Polyvinylpyrrolidone K12')}").text
    assert "(C<sub>6</sub>H<sub>9</sub>NO)<sub>n</sub>" in page
    assert "no single structure" in page
    assert "not defined" in page
    assert "PubChem" not in page
    assert "None" not in page


def test_a_mixture_shows_its_components_the_largest_first(
    browser: FlaskClient, find: Callable[[str, str], str]
) -> None:
    page = browser.get(f"/mixtures/{find('mixtures', 'M22')}").text
    assert "22.305 % (w/v)" in page
    assert page.index("22.305") < page.index("16.837") < page.index("12.858") < page.index("2.8 %")
    assert "Critical cooling rate" in page
    assert "0.1 °C/min" in page
    assert "None" not in page


def test_the_mixtures_name_their_components(browser: FlaskClient) -> None:
    page = browser.get("/mixtures").text
    for name in ("VS55", "DP6", "M22", "PVS2", "N-Methylformamide"):
        assert name in page


def test_measured_and_predicted_values_show_everything_that_is_known(
    host: Flask, browser: FlaskClient, find: Callable[[str, str], str]
) -> None:
    mixture_id = find("mixtures", "VS55")
    with host.app_context():
        kind = PropertyType(name="Glass transition", unit="°C")
        method = CalculationMethod(name="Gordon and Taylor", version="1952")
        common = {"mixture_id": uuid.UUID(mixture_id), "property_type": kind}
        db.session.add_all(
            [
                Experiment(
                    **common,
                    value=-123.0,
                    uncertainty=0.5,
                    conditions="10 °C/min",
                    performed_on=datetime(2004, 4, 1, tzinfo=UTC).date(),
                ),
                Prediction(**common, calculation_method=method, value=-120.25, uncertainty=2.0),
            ]
        )
        db.session.commit()
    page = browser.get(f"/mixtures/{mixture_id}").text
    for text in ("−123 °C", "± 0.5", "10 °C/min", "2004-04-01", "−120.25 °C", "Gordon and Taylor 1952"):  # noqa: RUF001
        assert text in page
    document = browser.get(f"/api/mixtures/{mixture_id}").json
    assert {
        "property": "Glass transition",
        "value": -123.0,
        "unit": "°C",
        "uncertainty": 0.5,
        "conditions": "10 °C/min",
        "performed_on": "2004-04-01",
        "source": None,
    } in document["experiments"]
    assert document["predictions"] == [
        {
            "property": "Glass transition",
            "value": -120.25,
            "unit": "°C",
            "uncertainty": 2.0,
            "method": {"name": "Gordon and Taylor", "version": "1952"},
        }
    ]


@pytest.mark.parametrize("kind", ["molecules", "mixtures"])
def test_an_empty_list_says_which_command_to_run(host: Flask, database: Database, kind: str) -> None:
    rollback_migrations(conn=database.engine(), migrations_dir=SCRIPTS, target_version="005", environment="testing")
    page = host.test_client().get(f"/{kind}")
    assert page.status_code == 200
    assert f"There are no {kind} yet" in page.text
    assert "flask db-migrate apply" in page.text


def test_long_lists_come_in_pages(host: Flask, browser: FlaskClient) -> None:
    with host.app_context():
        db.session.add_all([Molecule(name=f"Molecule {n:03}") for n in range(210 - 23)])
        db.session.commit()
    first, last = browser.get("/molecules").text, browser.get("/molecules?page=3").text
    assert first.count('<th scope="row">') == 100
    assert "Page 1 of 3" in first
    assert 'href="/molecules?page=2"' in first
    assert last.count('<th scope="row">') == 10
    assert 'rel="next"' not in last
    document = browser.get("/api/molecules?page=2").json
    assert (document["page"], document["pages"], document["total"]) == (2, 3, 210)
    assert len(document["items"]) == 100
    assert document["next"] == "/api/molecules?page=3"
    assert browser.get("/api/molecules?page=3").json["next"] is None


@pytest.mark.parametrize("path", ["/", "/molecules", "/mixtures", "/api/molecules", "/api/mixtures"])
def test_more_rows_take_no_more_queries(host: Flask, browser: FlaskClient, path: str) -> None:
    with counted_queries(host) as few:
        browser.get(path)
    with host.app_context():
        for n in range(20):
            mixture = Mixture(name=f"Mixture {n}")
            mixture.components = [MixtureComponent(molecule=Molecule(name=f"Molecule {n} {m}")) for m in range(3)]
            db.session.add(mixture)
        db.session.commit()
    with counted_queries(host) as many:
        browser.get(path)
    assert len(few) == len(many) <= 3


@contextmanager
def counted_queries(host: Flask) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            statements.append(statement)

    with host.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def test_names_are_shown_as_text_whatever_they_hold(host: Flask, browser: FlaskClient) -> None:
    with host.app_context():
        db.session.add(Molecule(name="<script>alert(1)</script>", formula="<b>2</b>", smiles="<i>"))
        db.session.commit()
    page = browser.get("/molecules").text
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("path", ["/", "/molecules", "/mixtures", "/nowhere"])
def test_every_page_is_plain_semantic_html(browser: FlaskClient, path: str) -> None:
    page = browser.get(path).text
    assert page.count("<h1") == 1
    for landmark in ("<header>", "<nav ", "<main ", "<footer>", 'lang="en"', 'href="#content"', 'name="viewport"'):
        assert landmark in page
    for unwanted in ("<script", "<style", " style=", "//cdn", "http://"):
        assert unwanted not in page


def test_pages_work_under_a_sub_path(browser: FlaskClient) -> None:
    page = browser.get("/molecules", environ_overrides={"SCRIPT_NAME": "/cryo"}).text
    links = [part.split('"')[0] for part in page.split('href="')[1:]]
    assert links
    assert all(link.startswith(("/cryo/", "#")) for link in links)
    problem = browser.get("/api/nowhere", environ_overrides={"SCRIPT_NAME": "/cryo"})
    assert problem.content_type == "application/problem+json"


def test_answers_allow_nothing_from_elsewhere(browser: FlaskClient) -> None:
    for path in ("/", "/api/molecules", "/nowhere"):
        headers = browser.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_style_and_the_icon_are_there(browser: FlaskClient) -> None:
    for name in ("cryoprotect.css", "icon.svg"):
        with browser.get(f"/static/{name}") as answer:
            assert answer.status_code == 200


def test_developers_and_nobody_else_find_the_migrations_in_the_footer(database: Database) -> None:
    for environment, shown in (("development", True), ("testing", False), ("production", False)):
        app = create_app(
            environment,
            SQLALCHEMY_DATABASE_URI=database.url,
            SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool},
            DB_MIGRATE_ON_BOOT="off",
        )
        assert ('href="/admin/migrations/"' in app.test_client().get("/nowhere").text) is shown


# JSON


def test_molecules_as_json(browser: FlaskClient) -> None:
    document = browser.get("/api/molecules").json
    assert (document["page"], document["pages"], document["total"], document["next"]) == (1, 1, 23, None)
    glycerol = next(item for item in document["items"] if item["name"] == "Glycerol")
    assert (glycerol["formula"], glycerol["smiles"]) == ("C3H8O3", "C(C(CO)O)O")
    assert (glycerol["molar_mass"], glycerol["pubchem_cid"]) == (92.09, 753)
    assert datetime.fromisoformat(glycerol["created_at"]).utcoffset() == timedelta(0)


def test_a_molecule_as_json(browser: FlaskClient, find: Callable[[str, str], str]) -> None:
    document = browser.get(f"/api/molecules/{find('molecules', 'Formamide')}").json
    assert document["name"] == "Formamide"
    assert {m["name"] for m in document["mixtures"]} == {"VS55", "M22"}
    logp = next(p for p in document["properties"] if p["property"] == "logP")
    assert (logp["value"], logp["unit"]) == (-1.51, None)


def test_a_mixture_as_json(browser: FlaskClient, find: Callable[[str, str], str]) -> None:
    document = browser.get(f"/api/mixtures/{find('mixtures', 'VS55')}").json
    assert [(c["molecule"]["name"], c["concentration"], c["units"]) for c in document["components"]] == [
        ("Dimethyl sulfoxide (DMSO)", 3.1, "mol/L"),
        ("Formamide", 3.1, "mol/L"),
        ("Propylene glycol", 2.21, "mol/L"),
    ]
    assert {e["property"]: e["value"] for e in document["experiments"]} == {
        "Critical cooling rate": 2.5,
        "Critical warming rate": 50.0,
    }


# Where there is no answer


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/molecules/not-an-id",
        f"/molecules/{uuid.UUID(int=7)}",
        f"/mixtures/{uuid.UUID(int=7)}",
        "/molecules?page=0",
        "/molecules?page=2",
        "/molecules?page=many",
    ],
)
def test_what_is_not_there_is_a_404_as_page_and_as_json(browser: FlaskClient, path: str) -> None:
    page = browser.get(path)
    assert page.status_code == 404
    assert "<h1>Not Found</h1>" in page.text
    problem = browser.get(f"/api{path}")
    assert problem.status_code == 404
    assert problem.content_type == "application/problem+json"
    assert problem.json["status"] == 404


def test_nothing_can_be_changed(browser: FlaskClient) -> None:
    answer = browser.post("/api/molecules", json={"name": "Water"})
    assert answer.status_code == 405
    assert set(answer.allow) == {"GET", "HEAD", "OPTIONS"}
    assert answer.json["title"] == "Method Not Allowed"


@pytest.mark.parametrize("target", ["0", "003"])
def test_a_database_that_is_behind_says_which_command_to_run(host: Flask, database: Database, target: str) -> None:
    rollback_migrations(conn=database.engine(), migrations_dir=SCRIPTS, target_version=target, environment="testing")
    browser = host.test_client()
    page = browser.get("/molecules")
    assert page.status_code == 503
    assert "<code>flask db-migrate apply</code>" in page.text
    problem = browser.get("/api/molecules")
    assert problem.status_code == 503
    assert "flask db-migrate apply" in problem.json["detail"]


def test_a_database_that_does_not_answer_is_a_503_and_the_log_keeps_its_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app("production", SQLALCHEMY_DATABASE_URI="postgresql://alice:s3cret@127.0.0.1:1/cryo")
    page = app.test_client().get("/molecules")
    assert page.status_code == 503
    assert "does not answer" in page.text
    assert "The database does not answer" in caplog.text
    assert "s3cret" not in page.text + caplog.text


def test_a_fault_of_ours_is_not_taken_for_a_database_that_is_behind(
    host: Flask, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryoprotect.views._molecules", lambda: db.session.execute(sa.text("SELECT no_such_thing")))
    host.config["PROPAGATE_EXCEPTIONS"] = False
    page = host.test_client().get("/molecules")
    assert page.status_code == 500
    assert "<h1>Internal Server Error</h1>" in page.text
    assert "no_such_thing" not in page.text


# Values as text


@pytest.mark.parametrize(
    ("formula", "html"),
    [
        ("C2H6OS", "C<sub>2</sub>H<sub>6</sub>OS"),
        ("C12H22O11", "C<sub>12</sub>H<sub>22</sub>O<sub>11</sub>"),
        ("CH3NO", "CH<sub>3</sub>NO"),
        ("(C6H9NO)n", "(C<sub>6</sub>H<sub>9</sub>NO)<sub>n</sub>"),
        ("2H2O", "2H<sub>2</sub>O"),
        ("Mn", "Mn"),
        ("<C2>", "&lt;C<sub>2</sub>&gt;"),
    ],
)
def test_formulas_have_subscripts(formula: str, html: str) -> None:
    assert str(formula_html(formula)) == html


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Decimal("78.140"), "78.14"),
        (Decimal("100.000"), "100"),
        (Decimal("0.00000"), "0"),
        (2.0, "2"),
        (-1.35, "\N{MINUS SIGN}1.35"),
        (0.1 + 0.2, "0.3"),
        (1.5e-14, "1.5e\N{MINUS SIGN}14"),
    ],
)
def test_numbers_have_no_needless_zeros(number: Decimal | float, text: str) -> None:
    assert number_text(number) == text
