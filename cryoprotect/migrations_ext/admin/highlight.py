"""Source text becomes numbered lines of safe HTML; pygments is imported when the first page needs it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..model import Kind

if TYPE_CHECKING:
    from pygments.lexer import Lexer

LIMIT = 256 * 1024
"""Characters shown of one part; more would make a page that no browser enjoys."""

# Characters that nobody sees, or that turn the order of what is seen: what is reviewed must be what runs
# ("Trojan Source", CVE-2021-42574).
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One line of a file, highlighted."""

    number: int
    html: Markup


@dataclass(frozen=True, slots=True)
class Source:
    """A text as lines, cut after `LIMIT` characters."""

    lines: tuple[SourceLine, ...]
    hidden: int = 0
    """How many characters are not shown."""


def highlight(text: str, kind: Kind, *, first_line: int = 1) -> Source:
    """Return `text` as highlighted lines, numbered from `first_line`."""
    from pygments import highlight as render
    from pygments.formatters import HtmlFormatter

    shown = text[:LIMIT]
    html = render(shown, _lexer(kind), HtmlFormatter(nowrap=True))
    lines = html.removesuffix("\n").split("\n")  # pygments closes every span at the end of its line
    return Source(
        lines=tuple(SourceLine(number, _safe(line)) for number, line in enumerate(lines, first_line)),
        hidden=len(text) - len(shown),
    )


def _lexer(kind: Kind) -> Lexer:
    # Empty lines at the head count: without stripnl=False every number after them would be wrong.
    if kind is Kind.PYTHON:
        from pygments.lexers.python import PythonLexer

        return PythonLexer(stripnl=False)
    from pygments.lexers.sql import PostgresLexer

    return PostgresLexer(stripnl=False)


def _safe(escaped: str) -> Markup:
    """Mark a line, which pygments has escaped, as HTML, and show what hides in it."""
    return Markup(_UNSEEN.sub(_reveal, escaped))  # noqa: S704


def _reveal(match: re.Match[str]) -> str:
    character = match.group()
    name = unicodedata.name(character, "control character")
    return f'<mark class="unseen" title="{name}">U+{ord(character):04X}</mark>'
