"""A file of SQL is cut at its `-- migrate:` lines and nowhere else, and its leading comments declare what holds."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

from ..errors import ScriptError
from ..model import Direction
from .declarations import KEYS, Declared, nearest_key
from .names import place, shown

# Generous with `up` and `down`, since a marker that goes unseen runs the rollback right behind the apply part; strict
# with other words, since `-- Migrate: …` is also how people start a comment.
_MARKER = re.compile(r"--[ \t]*(?:(?i:migrate[ \t]*:[ \t]*(?=(?:up|down)\b))|migrate:(?=\w))(\w+)([^\n]*)")
_OPTION = re.compile(r"([A-Za-z_]+)\s*:\s*([^\s:]+)")
_DECLARATION = re.compile(r"([A-Za-z][A-Za-z_-]*)[ \t]*:(?!:)[ \t]*(.*)")
_BLANK = re.compile(r"[ \t\r\n\f\v]*")
_BLOCK_EDGE = re.compile(r"/\*|\*/")
# A whole file runs as one apply part, so another tool's rollback part would run right behind it.
_FOREIGN_ROLLBACK = re.compile(
    r"--[ \t]*(?:\+(?:goose|migrate|micrate)[ \t]+Down|rambler[ \t]+down|/?/?@UNDO|-- create above / drop below)\b"
)


class Section(NamedTuple):
    """The text of one direction, as written, with what was declared for it."""

    text: str
    first_line: int
    """Line of the file (1-based) where `text` starts."""
    declared: Mapping[str, Declared]


class SqlFile(NamedTuple):
    """What one file of SQL holds."""

    apply: Section | None
    rollback: Section | None
    description: str


@dataclass(slots=True)
class _Head:
    """Leading comments: what they declare, what they say, where the first thing that is no comment stands."""

    end: int
    declared: dict[str, Declared] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


def parse_sql(text: str, path: Path, version: str, *, whole: Direction = Direction.APPLY) -> SqlFile:
    """Cut `text` into its parts; without marker lines all of it is the part that `whole` says.

    Declarations before the first marker hold for both parts, those behind a marker for its part. Raises
    `ScriptError` for markers and declarations that cannot be meant as they stand.
    """
    return _Parser(text, path, version).parse(whole)


class _Parser:
    def __init__(self, text: str, path: Path, version: str) -> None:
        self.text = text
        self.path = path
        self.version = version

    def parse(self, whole: Direction) -> SqlFile:
        markers = list(self._lines(_MARKER))
        head = self._head(0, markers[0].start() if markers else len(self.text))
        if not markers:
            self._refuse_foreign_rollback()
            section = Section(self.text, 1, head.declared)
            description = _first_paragraph(head.comments)
            if whole is Direction.APPLY:
                return SqlFile(section, None, description)
            return SqlFile(None, section, description)
        if head.end < markers[0].start():
            self._fail(
                head.end,
                "SQL stands before the first `-- migrate:` line, where it belongs to no part.",
                "Move it below that line.",
            )
        up, down = self._in_order(markers)
        apply = rollback = None
        comments = head.comments
        if up:
            apply, said = self._section(up, down.start() if down else len(self.text), head.declared)
            comments = comments or said
        if down:
            rollback, _ = self._section(down, len(self.text), head.declared)
        return SqlFile(apply, rollback, _first_paragraph(comments))

    def _lines(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """Where lines start with `pattern`; the same words behind something else on a line are a comment."""
        for found in pattern.finditer(self.text):
            if not self.text[self.text.rfind("\n", 0, found.start()) + 1 : found.start()].strip():
                yield found

    def _in_order(self, markers: list[re.Match[str]]) -> tuple[re.Match[str] | None, re.Match[str] | None]:
        """The marker of the apply part and that of the rollback part."""
        up = down = None
        for marker in markers:
            word = marker[1].lower()
            if word not in ("up", "down"):
                self._fail(
                    marker.start(),
                    f"`-- migrate:{marker[1]}` is no marker.",
                    "The parts of a script start with `-- migrate:up` and `-- migrate:down`.",
                )
            if (up if word == "up" else down) is not None:
                self._fail(marker.start(), f"`-- migrate:{word}` stands here a second time.", "Keep one of each.")
            if word == "down":
                down = marker
            elif down is None:
                up = marker
            else:
                self._fail(
                    marker.start(), "`-- migrate:up` comes after `-- migrate:down`.", "Put the part that applies first."
                )
        return up, down

    def _section(self, marker: re.Match[str], end: int, inherited: Mapping[str, Declared]) -> tuple[Section, list[str]]:
        start = min(marker.end() + 1, end)
        head = self._head(start, end)
        declared = {**inherited, **self._options(marker), **head.declared}
        return Section(self.text[start:end], self._line(marker.start()) + 1, declared), head.comments

    def _options(self, marker: re.Match[str]) -> dict[str, Declared]:
        """dbmate's `transaction:false` behind a marker."""
        rest = marker[2].strip()
        if not rest:
            return {}
        found = _OPTION.fullmatch(rest)
        if found is None or found[1].lower() != "transaction":
            self._fail(
                marker.start(),
                f"`{rest}` behind a marker is no option that is known.",
                "Only `transaction:false` (or `transaction:true`) may stand there.",
            )
        return {"transactional": self._declared("transactional", found[2], marker.start())}

    def _head(self, start: int, end: int) -> _Head:
        """Read the comments from `start` up to the first thing that is none."""
        head = _Head(end=start)
        while blank := _BLANK.match(self.text, head.end, end):
            position = blank.end()
            if self.text.count("\n", head.end, position) > 1:
                head.comments.append("")
            head.end = position
            if self.text.startswith("--", position, end):
                stop = self.text.find("\n", position, end)
                head.end = end if stop < 0 else stop
                self._comment(self.text[position : head.end].strip().strip("-").strip(), position, head)
            elif block_end := self._block_end(position, end):
                head.end = block_end
                lines = self.text[position + 2 : block_end - 2].splitlines()
                head.comments += [line.strip().strip("*").strip() for line in lines]
            else:
                break
        return head

    def _block_end(self, start: int, end: int) -> int | None:
        """Where the block comment ends, nested ones counted; None where there is none, or no end of it."""
        if not self.text.startswith("/*", start, end):
            return None
        depth = 0
        for edge in _BLOCK_EDGE.finditer(self.text, start, end):
            depth += 1 if edge[0] == "/*" else -1
            if depth == 0:
                return edge.end()
        return None

    def _comment(self, comment: str, position: int, head: _Head) -> None:
        """Note one `--` line of the head: as a declaration where its key is known, else as words."""
        found = _DECLARATION.fullmatch(comment)
        key = found[1].lower().replace("-", "_") if found else ""
        if found and key in KEYS:
            if key in head.declared:
                self._fail(position, f"`{key}` is declared a second time.", "Keep one of the two lines.")
            head.declared[key] = self._declared(key, found[2], position)
        elif found and (meant := nearest_key(key)):
            self._fail(
                position,
                f"`{found[1]}` is no declaration that is known.",
                f"Did you mean `-- {meant}: …`? A comment that only looks like it goes below the first statement.",
            )
        else:
            head.comments.append(comment)

    def _declared(self, key: str, given: str, position: int) -> Declared:
        try:
            return Declared(KEYS[key](given.strip()), self._line(position))
        except ValueError as error:
            self._fail(position, f"`{key}` {error}, and not {reprlib.repr(given.strip())}.", "Correct the line.")

    def _refuse_foreign_rollback(self) -> None:
        found = next(self._lines(_FOREIGN_ROLLBACK), None)
        if found:
            self._fail(
                found.start(),
                f"`{found[0]}` is another tool's mark, and what follows it would run right after what it takes back.",
                "Write `-- migrate:up` above the part that applies, and `-- migrate:down` in place of this line.",
            )

    def _line(self, position: int) -> int:
        return self.text.count("\n", 0, position) + 1

    def _fail(self, position: int, message: str, hint: str) -> NoReturn:
        line = self._line(position)
        raise ScriptError(
            f"{place(self.path, line)}: {shown(message)}",
            version=self.version,
            hint=hint,
            file=self.path,
            line=line,
        )


def _first_paragraph(comments: list[str]) -> str:
    words: list[str] = []
    for comment in comments:
        if any(c.isalnum() for c in comment):
            words.append(comment)
        elif words:
            break
    return " ".join(words)
