"""A script cannot commit, roll back or close what is not its own; whoever tries is told what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import ExceptionContext

from ..dialects.base import Dialect
from ..dialects.statements import StatementKind
from ..errors import ScriptGuardError
from .texts import TAKE_CONTROL_OUT, control_error

_CONTROL_WORD = re.compile(r"\b(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|PREPARE|SAVEPOINT|RELEASE)\b", re.IGNORECASE)
_KEY = "_migration_guard"

_USE_SAVEPOINT = (
    "Let the error out, and everything is rolled back. To try something that may fail, put it into a savepoint: "
    "`with conn.connection.begin_nested():`."
)
_LEAVE_OPEN = "Take it out: the connection belongs to the run, which closes it."


class Watcher(Protocol):
    """Who is told about statements that reach the database past `conn.sql`."""

    observed: bool

    @property
    def standing(self) -> BaseException | None: ...

    def before(self, text: str, savepoints: Sequence[str]) -> None: ...

    def after(self) -> None: ...

    def failed(self, error: BaseException) -> None: ...


class Guard:
    """Stands at the SQLAlchemy connection from the moment a script asks for it until `remove`.

    Nothing is installed before: scripts that only use `conn.sql` do not pay for it.
    """

    def __init__(self, connection: sa.Connection, dialect: Dialect, watcher: Watcher, *, transactional: bool) -> None:
        self.violated: ScriptGuardError | None = None
        self._connection = connection
        self._dialect = dialect
        self._watcher = watcher
        self._transactional = transactional
        self._undo: list[Callable[[], None]] = []
        self._resetting = False

    def refuse(self, message: str, hint: str, *, cause: BaseException | None = None) -> NoReturn:
        """Raise `ScriptGuardError`, and remember the first one in case the script swallows it."""
        error = ScriptGuardError(message, hint=hint)
        self.remember(error)
        raise error from cause

    def remember(self, error: ScriptGuardError) -> None:
        """Keep the first violation: it fails the migration even if the script swallows it."""
        self.violated = self.violated or error

    def install(self) -> None:
        """Put the guard up, unless it is up."""
        if self._undo:
            return
        connection = self._connection
        if not connection.in_transaction():
            connection.begin()  # SQLAlchemy's bookkeeping; over AUTOCOMMIT nothing is sent
        self._override(connection, self._connection_methods())
        self._override(connection.connection, self._pooled_methods(connection.connection))
        self._listen("commit", self._on_commit)
        self._listen("rollback", self._on_rollback)
        self._listen("before_cursor_execute", self._before)
        self._listen("after_cursor_execute", self._after)
        if not sa.event.contains(connection.engine, "handle_error", _on_error):
            # Once per engine and never taken off: other threads may be walking through the engine's listeners.
            sa.event.listen(connection.engine, "handle_error", _on_error)
        vars(connection)[_KEY] = self._watcher
        self._undo.append(lambda: vars(connection).pop(_KEY, None))

    def remove(self) -> None:
        """Take the guard down, and leave SQLAlchemy's bookkeeping in order; nothing is sent."""
        if self._undo and self._is_untidy():
            self._reset()
        while self._undo:
            self._undo.pop()()

    # -- methods of the connection, and of the pooled driver connection under it

    def _connection_methods(self) -> dict[str, Callable[..., Any]]:
        methods = self._methods_of(self._connection)
        methods |= {"begin": self._begin, "rollback": self._rollback}
        if not self._transactional:
            methods["commit"] = self._harmless_commit(self._connection.commit, self._connection.begin)
        return methods

    def _pooled_methods(self, pooled: sa.PoolProxiedConnection) -> dict[str, Callable[..., Any]]:
        methods = self._methods_of(pooled)
        if self._transactional:
            methods["rollback"] = self._rollback
        return methods

    def _methods_of(self, target: sa.Connection | sa.PoolProxiedConnection) -> dict[str, Callable[..., Any]]:
        methods: dict[str, Callable[..., Any]] = {
            "close": lambda: self.refuse("The script closes the migration's connection.", _LEAVE_OPEN),
            "detach": lambda: self.refuse("The script detaches the migration's connection.", _LEAVE_OPEN),
            "invalidate": self._invalidate(target.invalidate),
        }
        if self._transactional:
            methods["commit"] = self._commit
        return methods

    def _begin(self) -> NoReturn:
        if self._transactional:
            self.refuse(
                "The script begins a transaction; it runs inside the migration's transaction already.",
                "Leave begin() out, or write conn.connection.begin_nested() for a part that may fail by itself.",
            )
        self.refuse(
            "The script calls begin(), which does nothing on the connection of a non-transactional migration.",
            'Send the statements themselves: conn.sql("BEGIN; …; COMMIT").execute().',
        )

    def _commit(self) -> NoReturn:
        self.refuse("The script commits the migration's transaction.", TAKE_CONTROL_OUT)

    def _harmless_commit(self, commit: Callable[[], None], begin: Callable[[], object]) -> Callable[[], None]:
        def commit_and_begin() -> None:
            commit()
            begin()  # in SQLAlchemy's books only, where the ORM looks before it begins by itself

        return commit_and_begin

    def _rollback(self) -> NoReturn:
        if self._transactional:
            self.refuse(
                "The script rolls back the migration's transaction.", _USE_SAVEPOINT, cause=self._watcher.standing
            )
        self.refuse(
            "The script calls rollback(), which cannot undo anything in a non-transactional migration.",
            "Each statement was committed when it ended; undo it with a statement of its own.",
        )

    def _invalidate(self, original: Callable[[BaseException], None]) -> Callable[..., None]:
        def invalidate(error: BaseException | None = None) -> None:
            if error is None:
                self.refuse("The script invalidates the migration's connection.", _LEAVE_OPEN)
            original(error)  # SQLAlchemy itself, about a connection that is lost

        return invalidate

    # -- events

    def _on_commit(self, _connection: sa.Connection) -> None:
        """A `Transaction` or an ORM session commits; the pooled connection refuses it, unless it is our own reset."""
        if self._resetting:
            raise _Reset

    def _on_rollback(self, _connection: sa.Connection) -> None:
        """A `Transaction` or an ORM session rolls back; after an SQL error that error is the one to tell."""
        standing = self._watcher.standing
        if standing is not None:
            raise standing

    def _before(self, _connection: Any, _cursor: Any, text: str, _parameters: Any, _context: Any, _many: bool) -> None:
        if not self._watcher.observed:
            return
        savepoints: list[str] = []
        if _CONTROL_WORD.search(text):
            statements = self._dialect.split(text)
            error = control_error(statements) if self._transactional else None
            if error is not None:
                self.remember(error)
                raise error
            savepoints = [s.text for s in statements if s.kind is StatementKind.SAVEPOINT]
        self._watcher.before(text, savepoints)

    def _after(self, *_what: Any) -> None:
        if self._watcher.observed:
            self._watcher.after()

    # -- up and down

    def _override(self, target: object, methods: dict[str, Callable[..., Any]]) -> None:
        """Put methods on one object, not on its class: it stays the real thing for the ORM and for Alembic."""
        attributes = vars(target)
        attributes.update(methods)
        for name in methods:
            self._undo.append(lambda name=name: attributes.pop(name, None))  # type: ignore[misc]

    def _listen(self, event: str, handler: Callable[..., None]) -> None:
        sa.event.listen(self._connection, event, handler)
        self._undo.append(lambda: sa.event.remove(self._connection, event, handler))

    def _is_untidy(self) -> bool:
        """Whether the script left a `Transaction` behind that would hinder the next user of the connection."""
        connection = self._connection
        if connection.closed or connection.invalidated:
            return False
        root = connection.get_transaction()
        return connection.get_nested_transaction() is not None or (root is not None and not root.is_active)

    def _reset(self) -> None:
        """Make SQLAlchemy forget its transaction objects; the database's transaction is not touched."""
        root = self._connection.get_transaction()
        self._resetting = True
        try:
            if root is not None and root.is_active:
                root.commit()  # stopped by our listener before anything is sent
        except _Reset:
            pass
        finally:
            self._resetting = False
        vars(self._connection).pop("rollback", None)
        self._connection.rollback()  # of an inactive transaction: sends nothing


class _Reset(Exception):  # noqa: N818 - no error
    """Stops a commit that is there for SQLAlchemy's bookkeeping only."""


def _on_error(context: ExceptionContext) -> None:
    watcher: Watcher | None = vars(context.connection).get(_KEY) if context.connection is not None else None
    if watcher is None or not watcher.observed:
        return
    if context.sqlalchemy_exception is not None and isinstance(
        context.original_exception, context.dialect.loaded_dbapi.Error
    ):
        watcher.failed(context.sqlalchemy_exception)
