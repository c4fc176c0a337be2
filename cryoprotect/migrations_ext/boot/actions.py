"""What a start does to the database: apply, look whether anything is missing, or only warn."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from flask import Flask

from ..api import Manager
from ..errors import DatabaseUnavailableError, DirectoryError, MigrationError, PendingMigrationsError
from ..events import Event, RunStarted, Waiting
from ..model import Direction, Source
from ..redaction import redact
from ..report import error_lines, printable

T = TypeVar("T")

CONNECT_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds between attempts to reach the database: one in a container beside us may still be starting."""
_LONGEST_WAIT = 15.0
"""Seconds after which there is no further attempt: where nobody answers at all, a single one takes minutes."""

# Good news are warnings, too: until a host configures logging, Python shows nothing below, and who starts a server has
# to see what it did to the database.
_logger = logging.getLogger("cryoprotect.migrations_ext")


class Actions:
    """What one app does to its database in one environment. `pauses` are seconds between attempts to reach it."""

    def __init__(self, app: Flask, environment: str, pauses: Sequence[float] = CONNECT_PAUSES) -> None:
        self._app = app
        self._environment = environment
        self._pauses = pauses

    def apply(self, *, patient: bool = True) -> None:
        """Apply what is pending; raises `MigrationError`. With `patient`, waits for a database that is not up yet."""
        with self._manager() as manager:
            try:
                results = self._when_reachable(lambda: manager.apply(observers=[self._tell]), patient=patient)
            except DirectoryError as error:
                if manager.directory.exists():
                    raise
                self.say(*error_lines(error))  # a project that has no migrations yet
                return
        if results:
            count = "1 migration" if len(results) == 1 else f"{len(results)} migrations"
            self.say(f"Applied {count}: {', '.join(f'{r.version}_{r.name}' for r in results)}.")

    def require(self, *, patient: bool = True) -> None:
        """Raise `MigrationError` if something is pending or stands in its way; changes nothing.

        Names alone decide that nothing is pending, so an edited or lost file of an applied migration closes no site:
        the servers of the last release are well although the history knows more than they do.
        """
        with self._manager() as manager:
            plan = self._when_reachable(lambda: manager.plan(Direction.APPLY), patient=patient)
        if plan.steps:
            raise PendingMigrationsError([step.migration for step in plan.steps])

    def warn(self) -> None:
        """Say what is pending, or how files and history disagree. Never raises: a warning must not stop a site."""
        try:
            with self._manager() as manager:
                plan = manager.check()
            if plan.steps:
                raise PendingMigrationsError([step.migration for step in plan.steps])
        except MigrationError as error:
            self.say(*error_lines(error))
        except Exception:
            _logger.exception("The start-up check of the migrations failed; the app starts all the same.")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The database's URL with its password, which has to be masked in whatever is said."""
        return (self._app.extensions["db_migrate"].engine.url.render_as_string(hide_password=False),)

    def say(self, *lines: str, level: int = logging.WARNING) -> None:
        """Log lines as one record, without any secret."""
        _logger.log(level, "%s", "\n".join(printable(redact(line, self.secrets)) for line in lines))

    @contextmanager
    def _manager(self) -> Iterator[Manager]:
        with self._app.app_context():
            manager = Manager.for_app(self._app, environment=self._environment, source=Source.BOOT)
            try:
                yield manager
            finally:
                manager.let_go()  # workers that a server forks from here must not share our sockets

    def _tell(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            for warning in event.plan.warnings:
                self.say(warning)
        elif isinstance(event, Waiting):
            self.say(event.reason)

    def _when_reachable(self, call: Callable[[], T], *, patient: bool) -> T:
        """Call again while the database cannot be reached yet, a few seconds at most, and say what is awaited."""
        started = time.monotonic()
        for pause in self._pauses if patient else ():
            try:
                return call()
            except DatabaseUnavailableError as error:
                if time.monotonic() - started > _LONGEST_WAIT:
                    raise
                self.say(f"{error.message} Trying again in {pause:g} s.")
                time.sleep(pause)
        return call()
