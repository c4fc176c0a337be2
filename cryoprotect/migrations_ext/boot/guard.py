"""The guard stands before every page while the database is not as the code needs it, and steps aside by itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, RequestRedirect
from werkzeug.wrappers import Request

from ..api import Manager
from ..errors import DatabaseUnavailableError, DirectoryError, MigrationError, MigrationFailed, PendingMigrationsError
from ..events import Event, RunStarted, Waiting
from ..model import Direction, Source
from ..report import error_lines, printable
from .page import answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

T = TypeVar("T")

CONNECT_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds between attempts to reach the database: one in a container beside us may still be starting."""
_LONGEST_ATTEMPTS = 15.0
"""Seconds after which there is no further attempt: where nobody answers at all, a single one takes minutes."""
_RECHECK_SECONDS = 1.0

# The root logger shows nothing below a warning until the host configures it, and a developer has to see what was done.
_logger = logging.getLogger("cryoprotect.migrations_ext")


class Guard:
    """WSGI middleware, because a host's own hooks and sessions may ask for the very tables that are missing."""

    def __init__(self, app: Flask, environment: str, *, apply: bool, pauses: Sequence[float] = CONNECT_PAUSES) -> None:
        self._app = app
        self._environment = environment
        self._apply = apply
        self._pauses = pauses
        self._inner = app.wsgi_app
        self._trouble: MigrationError | None = None
        self._looking = threading.Lock()
        self._next_look = 0.0

    def start(self) -> None:
        """Look, apply where this environment does, and stand in the way only if something is wrong."""
        self._trouble = self._judge(self._pauses)
        if self._trouble is not None:
            _logger.error("%s", "\n".join(error_lines(self._trouble)))
            self._app.wsgi_app = self  # type: ignore[method-assign]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer instead of the host; our own pages, which show what is wrong, stay open."""
        if self._trouble is None:
            return self._inner(environ, start_response)
        request = Request(environ)
        routes = self._own_routes(request)
        if routes is not None and _is_own(routes):
            return self._inner(environ, start_response)
        self._look_again()
        trouble = self._trouble
        if trouble is None:
            return self._inner(environ, start_response)
        return answer(request, trouble, environment=self._environment, routes=routes)(environ, start_response)

    def _own_routes(self, request: Request) -> MapAdapter | None:
        """The app's routes where the admin page is among them."""
        if "db_migrate" not in self._app.blueprints:
            return None
        try:
            return self._app.create_url_adapter(request)  # type: ignore[arg-type]
        except HTTPException:  # a host name that the app does not trust
            return None

    def _look_again(self) -> None:
        """Somebody may have mended it meanwhile. One thread looks, at most once a second; the others do not wait."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            if time.monotonic() < self._next_look or self._trouble is None:
                return
            self._trouble = self._judge_again(self._trouble)
            self._next_look = time.monotonic() + _RECHECK_SECONDS
            if self._trouble is None:
                _logger.warning("The database is as this code needs it; the app's pages are back.")
        finally:
            self._looking.release()

    def _judge_again(self, before: MigrationError) -> MigrationError | None:
        if isinstance(before, DatabaseUnavailableError):
            return self._judge(pauses=())  # what was to happen at the start could not even begin
        now = self._missing()
        # The report of a failure says more than that its migration is pending, as long as that is true.
        is_still_so = isinstance(before, MigrationFailed) and isinstance(now, PendingMigrationsError)
        return before if is_still_so and now.version == before.version else now

    def _judge(self, pauses: Sequence[float]) -> MigrationError | None:
        """Apply, or only look; return what is wrong."""
        try:
            return _retried(self._apply_pending if self._apply else self._missing, pauses)
        except MigrationError as error:
            return error
    ...
