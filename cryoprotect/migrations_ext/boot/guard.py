"""The guard stands before every page while the database is not as the code needs it, and steps aside by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from flask import Flask, Request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from ..errors import DatabaseUnavailableError, MigrationError, MigrationFailed, PendingMigrationsError
from ..report import error_lines
from .actions import Actions
from .page import answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

RECHECK_SECONDS = 1.0
"""How often the guard looks at most whether it is still needed."""


class Guard:
    """WSGI middleware and no `before_request`: a host's hooks and sessions may need the very tables that are missing.

    It is put before the app only where something is wrong at the start; a healthy app pays nothing.
    """

    def __init__(self, app: Flask, actions: Actions, environment: str, *, apply: bool) -> None:
        self._app = app
        self._actions = actions
        self._environment = environment
        self._begin = actions.apply if apply else actions.require
        self._inner = app.wsgi_app
        self._trouble: MigrationError | None = None
        self._looking = threading.Lock()
        self._next_look = 0.0

    def start(self) -> None:
        """Do what this environment does at the start, and stand before the app if that failed."""
        self._trouble = _trouble_of(self._begin)
        if self._trouble is not None:
            self._actions.say(*error_lines(self._trouble), level=logging.ERROR)
            self._app.wsgi_app = self  # type: ignore[method-assign]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer instead of the app. The admin page stays open, it shows what is wrong."""
        if self._trouble is not None:
            request = self._app.request_class(environ)
            routes = self._routes(request)
            if routes is None or not _is_our_page(routes):
                self._look_again()
                trouble = self._trouble
                if trouble is not None:
                    in_development = self._environment == "development"
                    response = answer(
                        request, trouble, routes, in_development=in_development, secrets=self._actions.secrets
                    )
                    return response(environ, start_response)
        return self._inner(environ, start_response)

    def _routes(self, request: Request) -> MapAdapter | None:
        """The app's routes, where the admin page is among them."""
        if "db_migrate" not in self._app.blueprints:
            return None
        try:
            return self._app.create_url_adapter(request)
        except HTTPException:  # a host name that the app does not trust
            return None

    def _look_again(self) -> None:
        """Somebody may have mended it meanwhile. One thread looks, once a second; the others do not wait for it."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            if self._trouble is None or time.monotonic() < self._next_look:
                return
            self._trouble = self._now(self._trouble)
            self._next_look = time.monotonic() + RECHECK_SECONDS
            if self._trouble is None:
                self._actions.say("The database is as this code needs it; the app's own pages are back.")
        finally:
            self._looking.release()

    def _now(self, before: MigrationError) -> MigrationError | None:
        """What is wrong now. The report of a failed migration is kept as long as that is the one that is pending."""
        if isinstance(before, DatabaseUnavailableError):
            return _trouble_of(lambda: self._begin(patient=False))  # at the start it could not even begin
        now = _trouble_of(lambda: self._actions.require(patient=False))
        still_pending = isinstance(now, PendingMigrationsError) and now.version == before.version
        return before if isinstance(before, MigrationFailed) and still_pending else now


def _trouble_of(action: Callable[[], None]) -> MigrationError | None:
    try:
        action()
    except MigrationError as error:
        return error
    return None


def _is_our_page(routes: MapAdapter) -> bool:
    for path in (routes.path_info, f"{routes.path_info}/"):  # the second finds what the first is redirected to
        try:
            endpoint, _values = routes.match(path)
        except HTTPException:
            continue
        return str(endpoint).startswith("db_migrate.")
    return False
