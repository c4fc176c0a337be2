"""stdout is data, stderr is talk; with JSON stdout is one document, whatever else prints meanwhile."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from enum import StrEnum
from io import UnsupportedOperation
from typing import Any, TextIO

from ..report import printable


class Format(StrEnum):
    """What stdout carries."""

    TEXT = "text"
    JSON = "json"


class Output:
    """The two streams of one command, and how to write on them."""

    def __init__(self, format_: Format, stdout: TextIO | None) -> None:
        self.format = format_
        self._stdout = stdout

    @property
    def is_json(self) -> bool:
        """Whether stdout is kept for one document."""
        return self.format is Format.JSON

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at stdout on a terminal that can draw."""
        return not self.is_json and is_terminal(self._stdout)

    def lines(self, lines: Iterable[str]) -> None:
        """Write data."""
        _write(self._stdout, "".join(f"{printable(line)}\n" for line in lines))

    def verbatim(self, text: str) -> None:
        """Write data that has to stay as it is, as the text of a script."""
        _write(self._stdout, text if text.endswith("\n") else f"{text}\n")

    def document(self, document: Any) -> None:
        """Write the one document."""
        _write(self._stdout, json.dumps(document, indent=2) + "\n")

    def say(self, *lines: str) -> None:
        """Write talk."""
        _write(sys.stderr, "".join(f"{printable(line)}\n" for line in lines))

    def complain(self, lines: Iterable[str]) -> None:
        """Write an error; on a terminal its first word is red."""
        text = "".join(f"{printable(line)}\n" for line in lines)
        prefix = "\x1b[1;31mError:\x1b[0m " if is_terminal(sys.stderr) and has_colours() else "Error: "
        _write(sys.stderr, prefix + text)


@contextmanager
def opened(format_: Format) -> Iterator[Output]:
    """Yield the output of a command; for JSON, stdout belongs to the document alone until the command is over."""
    if format_ is Format.TEXT:
        yield Output(format_, sys.stdout)
        return
    with _reserved_stdout() as stdout:
        yield Output(format_, stdout)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream ends at a terminal that understands more than plain text."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def has_colours() -> bool:
    """Whether colours are welcome; see https://no-color.org."""
    return not os.environ.get("NO_COLOR")


@contextmanager
def _reserved_stdout() -> Iterator[TextIO | None]:
    """Yield the real stdout; what Python or anything below it prints meanwhile goes to stderr."""
    stdout, number, other = sys.stdout, _descriptor(sys.stdout), _descriptor(sys.stderr)
    if number is None or other is None:
        with redirect_stdout(sys.stderr):
            yield stdout
        return
    stdout.flush()
    kept = os.dup(number)
    try:
        os.dup2(other, number)
        with redirect_stdout(sys.stderr), os.fdopen(os.dup(kept), "w", encoding="utf-8") as document:
            yield document
    finally:
        with suppress(OSError, ValueError):
            stdout.flush()  # what was written to the stream object itself is talk, too
        os.dup2(kept, number)
        os.close(kept)


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return stream.fileno() if stream is not None else None
    except (UnsupportedOperation, ValueError):  # a stream in memory, or closed
        return None


def _write(stream: TextIO | None, text: str) -> None:
    """Write and flush. A reader who went away (`… | head`) never stops a run, nor changes how the command ends."""
    if stream is None or not text:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Let the rest go to nowhere, as Python's documentation of SIGPIPE advises."""
    number = _descriptor(stream)
    if number is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
