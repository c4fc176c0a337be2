"""An SQL error stands until the script rolls back to a savepoint that it had set before the error."""

from __future__ import annotations

import re

from .progress import Progress

_COMMAND = re.compile(
    r"""\s*(SAVEPOINT|RELEASE|ROLLBACK(?:\s+(?:WORK|TRANSACTION))?\s+TO)\s+(?:SAVEPOINT\s+)?
        ("(?:[^"]|"")+"|[^\s;]+)""",
    re.IGNORECASE | re.VERBOSE,
)


class Ledger:
    """The savepoints that a script has open, and the SQL errors that it has not undone.

    PostgreSQL refuses everything after an error until such a rollback; SQLite happily goes on. This makes both alike.
    """

    def __init__(self) -> None:
        self._savepoints: list[str] = []
        self._errors: list[tuple[int, BaseException, Progress]] = []

    @property
    def standing(self) -> BaseException | None:
        """The first error that was not undone."""
        return self._errors[0][1] if self._errors else None

    @property
    def place(self) -> Progress | None:
        """Where the script was when that error came."""
        return self._errors[0][2] if self._errors else None

    def failed(self, error: BaseException, place: Progress) -> None:
        """Note an error at the savepoint depth of this moment."""
        self._errors.append((len(self._savepoints), error, place))

    def executed(self, text: str) -> None:
        """Follow a savepoint command that the database has carried out."""
        match = _COMMAND.match(text)
        if match is None:
            return
        verb, name = match[1].upper(), _folded(match[2])
        if verb == "SAVEPOINT":
            self._savepoints.append(name)
        elif name in self._savepoints:
            # The latest of that name counts: an older one is hidden behind it.
            depth = len(self._savepoints) - 1 - self._savepoints[::-1].index(name)
            if verb == "RELEASE":
                self._release(depth)
            else:
                self._roll_back_to(depth)

    def _release(self, depth: int) -> None:
        del self._savepoints[depth:]
        self._errors = [(min(at, depth), error, place) for at, error, place in self._errors]

    def _roll_back_to(self, depth: int) -> None:
        del self._savepoints[depth + 1 :]
        self._errors = [(at, error, place) for at, error, place in self._errors if at <= depth]


def _folded(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
