"""What happens when an app starts serving, per environment; nothing at all under any other command or a test run."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click
import jinja2
from flask import Flask, Response, request, url_for
from werkzeug.serving import is_running_from_reloader

from .admin.access import Peer
from .api import Manager
from .errors import DatabaseUnavailableError, MigrationError, MigrationFailed
from .model import OnBoot, Source
from .report import error_document, error_lines

if TYPE_CHECKING:
    from .extension import AppMigrations

T = TypeVar("T")

_logger = logging.getLogger("cryoprotect.migrations_ext")
_CONNECT_PAUSES = (0.5, 1.0, 2.0, 4.0)  # a database in a container beside us may still be starting


def start(app: Flask, state: AppMigrations) -> None:
    """Do what `DB_MIGRATE_ON_BOOT` says, if this process is about to serve.

    Never raises for a migration that fails: the app starts, and says on every page what is wrong and what helps.
    """
    environment = state.settings.resolve_environment(debug=_debug(app))
    on_boot = state.settings.policy(environment).on_boot
    if on_boot is OnBoot.OFF or not is_about_to_serve():
        return
    if on_boot is OnBoot.APPLY:
        _Guard(app, environment, apply=True).start()
    elif on_boot is OnBoot.REQUIRE:
        _Guard(app, environment, apply=False).start()
    else:
        _warn_if_pending(app, environment)


def is_about_to_serve() -> bool:
    """Whether this process is a server: `flask run`, or an import that no command and no test asked for.

    The reloader loads the app twice; only the process that serves counts.
    """
    if "pytest" in sys.modules:  # also while tests are collected
        return False
    context = click.get_current_context(silent=True)
    if context is None:
        # python wsgi.py and gunicorn; a click program that has no context any more does not exist.
        return True
    if context.info_name != "run" or context.command.name != "run":
        return False
    reload = context.params.get("reload")
    with_reloader = _flag("FLASK_DEBUG") if reload is None else bool(reload)
    return not with_reloader or is_running_from_reloader()


def _flag(name: str) -> bool:
    return os.environ.get(name, "").lower() not in ("", "0", "false", "no")


def _debug(app: Flask) -> bool:
    """Flask sets app.debug from the command line only after the factory has returned."""
    return app.debug or _flag("FLASK_DEBUG")


def _warn_if_pending(app: Flask, environment: str) -> None:
    try:
        pending = _pending(app, environment)
    except MigrationError as error:
        _logger.warning("%s", "\n".join(error_lines(error)))
        return
    if pending:
        _logger.warning(
            "%d migration(s) are pending in %s, the first is %s. Run `flask db-migrate apply`.",
            len(pending), environment, pending[0],
        )  # fmt: skip


def _pending(app: Flask, environment: str) -> list[str]:
    """Labels of what is pending; also checks files against history as the environment's policy says."""
    with app.app_context():
        manager = Manager.for_app(app, environment=environment, source=Source.BOOT)
        try:
            plan = manager.check()
        finally:
            manager.let_go()
    return [step.migration.label for step in plan.steps]


class _Guard:
    """Stands before every page while the database is not as the code needs it, and steps aside by itself."""

    _RECHECK_SECONDS = 1.0

    def __init__(self, app: Flask, environment: str, *, apply: bool) -> None:
        self._app = app
        self._environment = environment
        self._apply = apply
        self._trouble: MigrationError | None = None
        self._checked_at = 0.0

    def start(self) -> None:
        """Look, apply where this environment does, and stand in the way only if something is wrong."""
        if self._apply:
            self._apply_pending()
        else:
            self._look()
        if self._trouble is not None:
            self._app.before_request(self._answer)

    def _apply_pending(self) -> None:
        with self._app.app_context():
            manager = Manager.for_app(self._app, environment=self._environment, source=Source.BOOT)
            try:
                results = _retried(manager.apply)
            except MigrationError as error:
                self._fail(error)
                return
            finally:
                manager.let_go()  # workers that a server forks from here must not share our sockets
        if results:
            _logger.warning(
                "Applied %d migration(s): %s.", len(results), ", ".join(f"{r.version}_{r.name}" for r in results)
            )

    def _look(self) -> None:
        """Check without changing anything."""
        try:
            pending = _retried(lambda: _pending(self._app, self._environment))
        except MigrationError as error:
            self._fail(error)
            return
        self._trouble = None
        if pending:
            self._fail(
                MigrationError(
                    f"{len(pending)} migration(s) are pending, the first is {pending[0]}.",
                    hint="Run `flask db-migrate apply`.",
                )
            )

    def _fail(self, error: MigrationError) -> None:
        first = self._trouble is None or self._trouble.message != error.message
        self._trouble = error
        if first:
            _logger.error("%s", "\n".join(error_lines(error)))

    def _answer(self) -> Response | None:
        """Answer instead of the host's page; None lets the host answer."""
        if self._trouble is None or request.blueprint == "db_migrate":
            return None
        if time.monotonic() - self._checked_at >= self._RECHECK_SECONDS:
            self._checked_at = time.monotonic()
            self._recheck()
        if self._trouble is None:
            return None
        return _page(self._app, self._trouble, environment=self._environment)

    def _recheck(self) -> None:
        """Somebody may have mended it meanwhile: the pages come back by themselves."""
        try:
            still = _pending(self._app, self._environment)
        except MigrationError as error:
            if not isinstance(self._trouble, MigrationFailed):
                self._trouble = error
            return
        if not still:
            self._trouble = None


def _retried(call: Callable[[], T]) -> T:
    """Call again while the database cannot be reached yet, a few seconds at most, and say what is awaited."""
    for pause in _CONNECT_PAUSES:
        try:
            return call()
        except DatabaseUnavailableError as error:
            _logger.warning("%s Trying again in %g s.", error.message, pause)
            time.sleep(pause)
    return call()


def _page(app: Flask, error: MigrationError, *, environment: str) -> Response:
    """The report as a page, for the developer at this machine; everybody else learns only that it is not their fault."""
    in_full = environment == "development" and Peer.from_environ(request.environ).is_local
    lines = error_lines(error) if in_full else []
    best = request.accept_mimetypes.best_match(["text/html", "application/json"], "text/html")
    if best == "application/json":
        body = error_document(error) if in_full else {"error": {"message": _CLOSED}}
        response = app.json.response(body)
    else:
        admin = "db_migrate" in app.blueprints
        text = _template("guard.html").render(
            closed=_CLOSED,
            lines=lines,
            stylesheet=url_for("db_migrate.static", filename="admin.css") if admin and in_full else None,
            overview=url_for("db_migrate.overview") if admin and in_full else None,
        )
        response = Response(text, mimetype="text/html")
    response.status_code = 503
    response.headers["Cache-Control"] = "no-store"
    response.headers["Retry-After"] = "5"
    return response


_CLOSED = "This site is being updated. Please try again in a moment."


@functools.cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.PackageLoader("cryoprotect.migrations_ext", "templates")
    return jinja2.Environment(loader=loader, autoescape=True).get_template(name)
