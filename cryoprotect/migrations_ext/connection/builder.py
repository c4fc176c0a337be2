"""Nothing runs before `.execute()`, and a builder that was never executed can be told afterwards."""

from __future__ import annotations

import itertools
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator

from .channel import Channel
from .results import Result

_PACKAGE = __name__.rpartition(".")[0]


class Drafts:
    """The builders of a script that were made and not executed yet.

    They are kept as text, not as references: a forgotten `.execute()` leaves a builder that nobody holds.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[int, str]] = {}

    def add(self, description: str) -> int:
        """Note a builder, with the line of the script that made it; return its number."""
        number = next(self._numbers)
        self._waiting[number] = (_line_of_caller(), description)
        return number

    def executed(self, number: int) -> None:
        """Strike a builder off."""
        self._waiting.pop(number, None)

    def __iter__(self) -> Iterator[str]:
        return (f"line {line}: {text}" for line, text in self._waiting.values())


class Builder(ABC):
    """A statement that a script is putting together."""

    def __init__(self, channel: Channel, drafts: Drafts, description: str) -> None:
        self._channel = channel
        self._drafts = drafts
        self._draft = drafts.add(description)

    def execute(self) -> Result:
        """Run it, and return its rows."""
        self._drafts.executed(self._draft)
        return self._run()

    @abstractmethod
    def _run(self) -> Result: ...


def _line_of_caller() -> int:
    """Line of the nearest caller outside this package."""
    frame = sys._getframe(2)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(_PACKAGE):
        frame = frame.f_back
    return frame.f_lineno
