"""Our templates live in an environment of their own: what a host does to its Jinja does not reach them.

A host may have changed the delimiters, and its context processors may ask the very database that is down.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from flask import Response, url_for
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

HERE = Path(__file__).parent
_QUOTED = re.compile(r"`([^`\n]+)`")


def render(template: str, *, status: int = 200, **context: Any) -> Response:
    """Return a page made from `templates/db_migrate/<template>`."""
    html = _environment().get_template(f"db_migrate/{template}").render(context)
    return Response(html, status=status, mimetype="text/html")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    environment.globals.update(url_for=url_for, asset=asset)
    return environment


def prose(text: str) -> Markup:
    """Return a sentence with its `quoted` parts as code."""
    return Markup(_QUOTED.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def asset(name: str) -> str:
    """Return the URL of a static file; it changes with the content, so that no cache shows an old one."""
    return url_for("db_migrate.static", filename=name, v=_fingerprint(name))


@cache
def _fingerprint(name: str) -> str:
    return hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]
