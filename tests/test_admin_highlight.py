"""Source text as numbered, safe, highlighted lines."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from cryoprotect.migrations_ext.admin.highlight import LIMIT, highlight
from cryoprotect.migrations_ext.model import Kind


def texts(source: str, kind: Kind = Kind.SQL) -> list[str]:
    """The lines without their marks."""
    lines = highlight(source, kind).lines
    return [re.sub(r"<[^>]*>", "", str(line.html)).replace("&#39;", "'").replace("&lt;", "<") for line in lines]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    "source",
    ["\n\n\nselect 1;\n", "select 1;", "select 1;\n\n\n", "a\n\n/* b\n\n c */\nd\n", "x = '''\n\n'''\n", "", "\n"],
)
def test_lines_are_those_of_the_file(source: str, kind: Kind) -> None:
    expected = source.removesuffix("\n").split("\n")
    assert texts(source, kind) == expected
    assert [line.number for line in highlight(source, kind).lines] == list(range(1, len(expected) + 1))


def test_numbers_start_where_the_part_starts() -> None:
    assert [line.number for line in highlight("a\nb\n", Kind.SQL, first_line=14).lines] == [14, 15]


@pytest.mark.parametrize("kind", list(Kind))
def test_nothing_in_a_script_becomes_markup(kind: Kind) -> None:
    html = "".join(
        line.html for line in highlight("-- <script>alert(1)</script>\n'<img src=x>' \"</code>\"\n", kind).lines
    )
    assert "<script" not in html
    assert "<img" not in html
    assert "</code" not in html


def test_keywords_and_strings_have_their_classes() -> None:
    assert '<span class="k">' in highlight("SELECT 'a';", Kind.SQL).lines[0].html
    assert "style=" not in highlight("SELECT 'a';", Kind.SQL).lines[0].html


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\u200b", "\ufeff", "\x1b", "\x00", "\u2028"])
def test_what_hides_is_shown(character: str) -> None:
    html = highlight(f"select 1 -- a{character}b\n", Kind.SQL).lines[0].html
    assert character not in html
    assert f"U+{ord(character):04X}" in html


def test_a_very_long_text_is_cut() -> None:
    source = highlight("x" * (LIMIT + 5), Kind.SQL)
    assert source.hidden == 5
    assert highlight("x", Kind.SQL).hidden == 0


def test_pygments_is_imported_when_a_script_is_shown_and_not_before() -> None:
    code = "import sys, cryoprotect.migrations_ext.admin; assert 'pygments' not in sys.modules, 'pygments'"
    subprocess.run([sys.executable, "-c", code], check=True)
