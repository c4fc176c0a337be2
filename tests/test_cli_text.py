"""Plain lines: aligned, one migration a line, nothing that moves."""

from __future__ import annotations

import pytest

from cryoprotect.migrations_ext.cli.text import count, duration, step_line, table_lines
from cryoprotect.migrations_ext.model import Outcome, StepResult


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, ""), (0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (59_949, "59.9 s"), (61_000, "1 min 1 s")],
)
def test_a_duration_has_the_unit_that_fits(milliseconds: int | None, text: str) -> None:
    assert duration(milliseconds) == text


def test_columns_are_aligned_without_blanks_at_the_end() -> None:
    assert list(table_lines([("Version", "Name"), ("1", "a"), ("002", "")])) == ["Version  Name", "1        a", "002"]


def test_a_step_is_one_line() -> None:
    assert step_line(StepResult("001", "a", Outcome.APPLIED, duration_ms=12)) == "applied 001_a  12 ms"
    assert step_line(StepResult("001", "a", Outcome.WOULD_ROLLBACK)) == "would rollback 001_a"


def test_numbers_agree_with_their_noun() -> None:
    assert (count(1), count(0), count(2, "file")) == ("1 migration", "0 migrations", "2 files")
