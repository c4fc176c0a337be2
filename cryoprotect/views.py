"""Pages and JSON that show the data and change nothing; every answer takes a fixed number of queries."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Flask, Response, current_app, jsonify, make_response, render_template, request, url_for
from flask_sqlalchemy.pagination import Pagination
from markupsafe import Markup, escape
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import joinedload, selectinload
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from .config import Development
from .database import Base, db
from .models import Experiment, Mixture, MixtureComponent, MolecularProperty, Molecule, Prediction

PAGE_SIZE = 100

pages = Blueprint("pages", __name__)
api = Blueprint("api", __name__, url_prefix="/api")


def init_app(app: Flask) -> None:
    """Register pages, JSON, and what is shown where either cannot answer."""
    app.register_blueprint(pages)
    app.register_blueprint(api)
    app.add_template_filter(formula_html, "formula")
    app.add_template_filter(number_text, "number")
    app.add_template_global(migrations_url)
    for status in (404, 405, 500):
        app.register_error_handler(status, _http_error)
    app.after_request(_add_security_headers)


# Pages


@pages.get("/")
def home() -> str:
    """What there is, and where."""
    count = sa.select(sa.func.count()).select_from
    molecules, mixtures = db.session.execute(
        sa.select(count(Molecule).scalar_subquery(), count(Mixture).scalar_subquery())
    ).one()
    return render_template("cryoprotect/home.html", molecules=molecules, mixtures=mixtures)


@pages.get("/molecules")
def molecules() -> str:
    """All molecules, by name."""
    return render_template("cryoprotect/molecules.html", page=_molecules())


@pages.get("/molecules/<uuid:molecule_id>")
def molecule(molecule_id: uuid.UUID) -> str:
    """One molecule with its properties, and the mixtures that contain it."""
    return render_template("cryoprotect/molecule.html", molecule=_molecule(molecule_id))


@pages.get("/mixtures")
def mixtures() -> str:
    """All mixtures, by name."""
    return render_template("cryoprotect/mixtures.html", page=_mixtures())


@pages.get("/mixtures/<uuid:mixture_id>")
def mixture(mixture_id: uuid.UUID) -> str:
    """One mixture with its components, and what was measured and predicted."""
    return render_template("cryoprotect/mixture.html", mixture=_mixture(mixture_id))


# JSON


@api.get("/molecules")
def molecules_json() -> Response:
    """One page of molecules."""
    return _page_json(_molecules(), _molecule_json)


@api.get("/molecules/<uuid:molecule_id>")
def molecule_json(molecule_id: uuid.UUID) -> Response:
    """One molecule with its properties, and the mixtures that contain it."""
    found = _molecule(molecule_id)
    properties = [_value_json(p) | {"source": p.source} for p in found.properties]
    mixtures = [{"id": c.mixture.id, "name": c.mixture.name} for c in found.components]
    return jsonify(_molecule_json(found) | {"properties": properties, "mixtures": mixtures})


@api.get("/mixtures")
def mixtures_json() -> Response:
    """One page of mixtures with their components."""
    return _page_json(_mixtures(), _mixture_json)


@api.get("/mixtures/<uuid:mixture_id>")
def mixture_json(mixture_id: uuid.UUID) -> Response:
    """One mixture with its components, and what was measured and predicted."""
    found = _mixture(mixture_id)
    experiments = [_value_json(e) | _experiment_json(e) for e in found.experiments]
    predictions = [_value_json(p) | _prediction_json(p) for p in found.predictions]
    return jsonify(_mixture_json(found) | {"experiments": experiments, "predictions": predictions})


# Queries


def _molecules() -> Pagination:
    return _paginate(sa.select(Molecule).order_by(sa.func.lower(Molecule.name), Molecule.id))


def _molecule(molecule_id: uuid.UUID) -> Molecule:
    found: Molecule = db.one_or_404(
        sa.select(Molecule)
        .where(Molecule.id == molecule_id)
        .options(
            selectinload(Molecule.properties).joinedload(MolecularProperty.property_type),
            selectinload(Molecule.components).joinedload(MixtureComponent.mixture),
        ),
        description="There is no such molecule.",
    )
    return found


def _mixtures() -> Pagination:
    return _paginate(
        sa.select(Mixture)
        .order_by(sa.func.lower(Mixture.name), Mixture.id)
        .options(selectinload(Mixture.components).joinedload(MixtureComponent.molecule))
    )


def _mixture(mixture_id: uuid.UUID) -> Mixture:
    found: Mixture = db.one_or_404(
        sa.select(Mixture)
        .where(Mixture.id == mixture_id)
        .options(
            selectinload(Mixture.components).joinedload(MixtureComponent.molecule),
            selectinload(Mixture.experiments).joinedload(Experiment.property_type),
            selectinload(Mixture.predictions).options(
                joinedload(Prediction.property_type), joinedload(Prediction.calculation_method)
            ),
        ),
        description="There is no such mixture.",
    )
    return found


def _paginate(select: sa.Select[Any]) -> Pagination:
    """Return the page that `?page=` names; a page that does not exist is a 404."""
    return db.paginate(select, per_page=PAGE_SIZE)


# Objects as JSON


def _page_json(page: Pagination, as_json: Callable[[Any], dict[str, Any]]) -> Response:
    following = url_for(str(request.endpoint), page=page.next_num) if page.has_next else None
    items = [as_json(item) for item in page.items]
    return jsonify(items=items, page=page.page, pages=page.pages, total=page.total, next=following)


def _molecule_json(molecule: Molecule) -> dict[str, Any]:
    return {
        "id": molecule.id,
        "name": molecule.name,
        "formula": molecule.formula,
        "smiles": molecule.smiles,
        "molar_mass": _number_json(molecule.molar_mass),
        "pubchem_cid": molecule.pubchem_cid,
        "description": molecule.description,
        "created_at": molecule.created_at.isoformat(),
        "updated_at": molecule.updated_at.isoformat(),
    }


def _mixture_json(mixture: Mixture) -> dict[str, Any]:
    return {
        "id": mixture.id,
        "name": mixture.name,
        "description": mixture.description,
        "source": mixture.source,
        "components": [_component_json(component) for component in mixture.composition],
        "created_at": mixture.created_at.isoformat(),
        "updated_at": mixture.updated_at.isoformat(),
    }


def _component_json(component: MixtureComponent) -> dict[str, Any]:
    return {
        "molecule": {"id": component.molecule.id, "name": component.molecule.name},
        "concentration": _number_json(component.concentration),
        "units": component.units,
    }


def _value_json(value: MolecularProperty | Experiment | Prediction) -> dict[str, Any]:
    kind = value.property_type
    return {"property": kind.name, "value": value.value, "unit": kind.unit}


def _experiment_json(experiment: Experiment) -> dict[str, Any]:
    return {
        "uncertainty": experiment.uncertainty,
        "conditions": experiment.conditions,
        "performed_on": experiment.performed_on.isoformat() if experiment.performed_on else None,
        "source": experiment.source,
    }


def _prediction_json(prediction: Prediction) -> dict[str, Any]:
    method = prediction.calculation_method
    return {
        "uncertainty": prediction.uncertainty,
        "method": {"name": method.name, "version": method.version},
    }


def _number_json(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


# What templates need


def formula_html(formula: str) -> Markup:
    """Return a chemical formula with its counts as subscripts: C₂H₆OS, (C₆H₉NO)ₙ."""
    return Markup(re.sub(r"(?<=[A-Za-z)\]])\d+|(?<=\))n\b", r"<sub>\g<0></sub>", str(escape(formula))))  # noqa: S704


def number_text(value: Decimal | float) -> str:
    """Return a number without needless zeros, with a real minus sign."""
    text = f"{value.normalize():f}" if isinstance(value, Decimal) else f"{value:.12g}"
    return text.replace("-", "\N{MINUS SIGN}")


def migrations_url() -> str | None:
    """Return where a developer sees the migrations; None outside development."""
    if current_app.config["DB_MIGRATE_ENVIRONMENT"] != Development.DB_MIGRATE_ENVIRONMENT:
        return None
    return url_for("db_migrate.overview") if "db_migrate.overview" in current_app.view_functions else None


# What is shown instead of an answer


def _http_error(error: HTTPException) -> Response:
    nothing_said = error.description in (None, NotFound.description)
    detail = "There is nothing at this address." if nothing_said else str(error.description)
    response = _problem(error.code or 500, error.name, detail)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.allow.update(error.valid_methods)
    return response


# Not for the whole app: another blueprint knows better what its own database errors mean.
@pages.errorhandler(DBAPIError)
@api.errorhandler(DBAPIError)
def _database_error(error: DBAPIError) -> Response:
    """Say what to do where there is no database, or where its tables are older than the app; else it is a fault."""
    db.session.rollback()
    try:
        behind = _schema_is_behind()
    except DBAPIError as unreachable:
        # A traceback would quote what the driver said with the password in it.
        current_app.logger.error("The database does not answer: %s", _without_password(unreachable))  # noqa: TRY400
        return _problem(503, "The database does not answer", "Please try again in a moment.")
    if not behind:
        raise error
    return _problem(
        503,
        "The database is not ready",
        "Its tables are not there, or are older than this version of CryoProtect.",
        command="flask db-migrate apply",
    )


def _schema_is_behind() -> bool:
    """Whether a table or a column of our models is missing."""
    inspector = sa.inspect(db.engine)
    existing = set(inspector.get_table_names())
    return any(
        table.name not in existing
        or not {column.name for column in table.columns} <= {c["name"] for c in inspector.get_columns(table.name)}
        for table in Base.metadata.sorted_tables
    )


def _without_password(error: DBAPIError) -> str:
    text = str(error.orig).strip()
    password = db.engine.url.password
    return text.replace(str(password), "***") if password else text


def _problem(status: int, title: str, detail: str, *, command: str | None = None) -> Response:
    """Return a problem as a page, or for the JSON half as RFC 9457 has it."""
    if request.path.startswith("/api/"):
        cure = f" Run `{command}`." if command else ""
        response = jsonify(type="about:blank", title=title, status=status, detail=detail + cure)
        response.content_type = "application/problem+json"
    else:
        page = render_template("cryoprotect/problem.html", status=status, title=title, detail=detail, command=command)
        response = make_response(page)
    response.status_code = status
    return response


def _add_security_headers(response: Response) -> Response:
    """Our pages need nothing from elsewhere and no script."""
    response.headers.setdefault(
        "Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response
