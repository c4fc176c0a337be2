"""The answer in place of the app's: the whole report for the developer at this machine, a sentence for all others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import jinja2
from flask import Request, Response
from werkzeug.routing import MapAdapter

from ..errors import MigrationError, MigrationFailed
from ..peer import Peer
from ..redaction import redact, redact_values
from ..report import error_document, evidence_lines, headline, printable

CLOSED = "This site is being updated. Please try again in a moment."
_HEADERS = {
    "Retry-After": "5",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What the developer sees, part by part."""

    title: str
    sentence: str
    evidence: str
    """Lines that are drawn as they are: file, source, caret."""
    state: str | None
    """What state the database is in, where that is known."""
    steps: tuple[str, ...]
    """What to do now, in order."""


def answer(
    request: Request,
    error: MigrationError,
    routes: MapAdapter | None,
    *,
    in_development: bool,
    secrets: Iterable[str] = (),
) -> Response:
    """Return a 503 that says what is wrong to a local browser in development, and to others only that it will pass.

    `routes` are those of the app where the admin page is among them: it lends the style sheet. What is in the URLs
    `secrets` is masked.
    """
    in_full = in_development and Peer.from_environ(request.environ).is_local
    accepted = request.accept_mimetypes.best_match(("text/html", "application/json"), "text/html")
    document = redact_values(error_document(error), secrets) if in_full else {"error": {"message": CLOSED}}
    if accepted == "application/json":
        body = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    elif in_full:
        links = {name: routes.build(*target) for name, target in _LINKS.items()} if routes is not None else {}
        body = _template("guard.html").render(report=_report(error, document, secrets), links=links)
    else:
        body = _template("closed.html").render(sentence=CLOSED)
    response = Response(body, status=503, mimetype=accepted)
    response.headers.update(_HEADERS)
    return response


_LINKS: dict[str, tuple[str, dict[str, Any]]] = {
    "stylesheet": ("db_migrate.static", {"filename": "admin.css"}),
    "icon": ("db_migrate.static", {"filename": "icon.svg"}),
    "overview": ("db_migrate.overview", {}),
}


def _report(error: MigrationError, document: dict[str, Any], secrets: Iterable[str]) -> Report:
    if isinstance(error, MigrationFailed):
        title, sentence = headline(error.failure), document["failed"]["message"]
        steps = document["failed"]["next_steps"]
    else:
        title, sentence = "The database is not as this code needs it", document["error"]["message"]
        steps = [document["error"]["hint"] or "Look into the server's log."]
    return Report(
        title=printable(title),
        sentence=printable(sentence),
        evidence=dedent("\n".join(redact(line, secrets) for line in evidence_lines(error))).strip("\n"),
        state=document["database_state"],
        steps=tuple(printable(step) for step in steps),
    )


@cache
def _template(name: str) -> jinja2.Template:
    # An environment of our own: what a host does to its Jinja does not reach this page.
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)
