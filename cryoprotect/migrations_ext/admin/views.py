"""Each view is one question to the API and one template; who may ask is settled before any of them runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flask import Blueprint, Response, current_app, jsonify, request

from ..api import Manager
from ..errors import MigrationError
from ..model import Kind, Migration, Overview, Source, Verdict
from . import pages
from .access import Action, Peer, actor_of, is_allowed
from .highlight import highlight
from .pages.elements import Viewer
from .rendering import render

if TYPE_CHECKING:
    from ..extension import AppMigrations

_logger = logging.getLogger(__name__)

LIMIT = 50
"""Rows of one group until somebody asks for all: a page of a thousand is slow to make and slower to read."""

SECURITY_HEADERS = {
    "Content-Security-Policy": ("default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with it browsers send `Origin: null` from our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def make_blueprint(app_migrations: AppMigrations) -> Blueprint:
    """Return the admin page of one app as a blueprint, to be registered under `DB_MIGRATE_URL_PREFIX`."""
    admin = Admin(app_migrations)
    blueprint = Blueprint("db_migrate", __name__, static_folder="static", static_url_path="/static")
    blueprint.before_request(admin.guard)
    blueprint.after_request(admin.protect)
    blueprint.register_error_handler(MigrationError, admin.tell)
    blueprint.add_url_rule("/", "overview", admin.overview)
    blueprint.add_url_rule("/migrations/<version>", "migration", admin.migration)
    blueprint.add_url_rule("/health", "health", admin.health)
    # Whatever else is asked for below our prefix gets our answer, and is closed to whom the rest is closed.
    blueprint.add_url_rule("/<path:anything>", "elsewhere", admin.elsewhere)
    return blueprint


class Admin:
    """The views, over what one app configured."""

    def __init__(self, app_migrations: AppMigrations) -> None:
        self._app_migrations = app_migrations

    # --- around every view ---

    def guard(self) -> Response | None:
        """Answer in the view's place where this request may not see the page."""
        if request.endpoint == "db_migrate.health":
            return None
        try:
            return self._refusal()
        except MigrationError as error:
            # Nobody knows who is asking: the sentence goes to the log, and to a page in debug mode only.
            _logger.exception("The admin page stays closed.")
            return self.tell(error) if current_app.debug else _bare("Internal Server Error", 500)

    def _refusal(self) -> Response | None:
        environment = self._app_migrations.settings.resolve_environment(debug=current_app.debug)
        for_developers = environment == "development" or current_app.debug
        if request.endpoint == "db_migrate.static" and for_developers:
            return None  # the refusal itself is a page with a style sheet
        authorize = self._app_migrations.authorize
        peer = Peer.from_environ(request.environ)
        if is_allowed(Action.VIEW, authorize=authorize, environment=environment, peer=peer):
            return None
        _logger.info("Refused %r to %s (Host %r).", request.path, peer.address, peer.host)
        if authorize is None and for_developers:
            return render("message.html", status=403, page=pages.closed(peer))
        return _bare("Forbidden", 403)

    @staticmethod
    def protect(response: Response) -> Response:
        """Put the security headers on whatever is answered; only static files may be kept."""
        response.headers.update(SECURITY_HEADERS)
        if request.endpoint != "db_migrate.static" or response.status_code >= 400:
            response.headers["Cache-Control"] = "no-store"
        return response

    @staticmethod
    def tell(error: MigrationError) -> Response:
        """Tell an error that leaves nothing to show, with its cure."""
        return render("message.html", status=500, page=pages.broken(error))

    # --- views ---

    def overview(self) -> Response:
        """Everything at a glance."""
        manager = self._manager()
        page = pages.overview_page(
            manager.overview(tolerant=True),
            _viewer(manager),
            show=_show(request.args.get("show")),
            query=request.args.get("q", "").strip(),
            limit=None if request.args.get("rows") == "all" else LIMIT,
        )
        return render("overview.html", page=page)

    def migration(self, version: str) -> Response:
        """One migration: what is known of it, and its text."""
        manager = self._manager()
        page = pages.migration_page(
            manager.overview(tolerant=True), version, _viewer(manager), read=lambda m: list(_parts(manager, m))
        )
        if page is None:
            text = f"Neither the folder nor the history has a migration {version}."
            return render("message.html", status=404, page=pages.not_found(text))
        return render("migration.html", page=page)

    def health(self) -> tuple[Response, int]:
        """Counts for a probe: 200 while the database has everything that this code needs, else 503.

        An edited or missing file is counted and changes nothing: the servers of a release before the last one are
        well although the history knows more than they do.
        """
        try:
            overview = Manager.for_app(source=Source.WEB).overview(tolerant=True)
        except MigrationError:
            _logger.exception("The health probe cannot tell how the database stands.")
            counts = dict.fromkeys(_COUNTS)
        else:
            counts = _counts(overview)
        ready = all(counts[name] == 0 for name in ("pending", "interrupted", "unusable"))
        return jsonify(counts), 200 if ready else 503

    def elsewhere(self, anything: str) -> Response:
        """Whatever else is asked for."""
        return render("message.html", status=404, page=pages.not_found("There is no such page."))

    def _manager(self) -> Manager:
        return Manager.for_app(source=Source.WEB, actor=actor_of(self._app_migrations.identify))


def _viewer(manager: Manager) -> Viewer:
    return Viewer(app=current_app.name, actor=manager.actor, now=datetime.now(UTC))


def _bare(text: str, status: int) -> Response:
    """Return an answer that tells nothing."""
    return Response(f"{text}\n", status=status, mimetype="text/plain")


def _show(value: str | None) -> pages.Show:
    return pages.Show(value) if value in set(pages.Show) else pages.Show.ALL


def _parts(manager: Manager, migration: Migration) -> Iterator[pages.Part]:
    """Read and highlight the text of a migration that discovery found; a Python file is one part."""
    texts = manager.texts(migration)
    file = migration.apply_path.name
    if migration.kind is Kind.PYTHON:
        yield pages.Part("script", "Script", file, highlight(texts.apply, migration.kind))
        return
    source = highlight(texts.apply, migration.kind, first_line=texts.apply_line)
    yield pages.Part("apply", "Apply", file, source)
    if texts.rollback is not None:
        file = (migration.rollback_path or migration.apply_path).name
        source = highlight(texts.rollback, migration.kind, first_line=texts.rollback_line)
        yield pages.Part("rollback", "Rollback", file, source)


_COUNTS = ("applied", "pending", "skipped", "interrupted", "edited", "missing", "out_of_order", "unusable")


def _counts(overview: Overview) -> dict[str, int | None]:
    """Return how many migrations there are of each kind, and files that stop everything; None: it cannot be told."""
    if overview.verdict is Verdict.UNREACHABLE:
        return dict.fromkeys(_COUNTS)
    counts: dict[str, int | None] = {name: overview.counts.get(name, 0) for name in _COUNTS}
    return counts | {"unusable": sum(problem.blocking for problem in overview.problems)}
