"""What rich draws on a terminal; imported there only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..events import Event, Observer, RunStarted, StatementDone, StepFinished, StepStarted, Waiting
from ..model import MigrationStatus, Overview, State, StepResult
from ..redaction import redact
from ..report import printable
from .output import Output
from .text import STATUS_COLUMNS, place_line, state_words, status_cells, step_line, trouble_lines, warning_lines

_STYLES = {State.APPLIED: "green", State.PENDING: "yellow", State.SKIPPED: "dim", State.INTERRUPTED: "red"}


def print_overview(overview: Overview) -> None:
    """Draw what `status` says."""
    console = _console()
    console.print(_text(overview.sentence, "bold"))
    console.print(_text(place_line(overview), "dim"), soft_wrap=True)
    if overview.rows:
        console.print(_table(overview))
    for line in trouble_lines(overview):
        console.print(_text(line, "yellow" if line.startswith(("Problem", "Warning", "Last error")) else ""))
    if overview.next_command:
        console.print(Text.assemble("Next: ", (printable(overview.next_command), "bold")))


@contextmanager
def live_progress(output: Output) -> Iterator[Observer]:
    """Yield an observer that draws: finished steps stay above, the step under way moves below, and goes at the end."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_console(),
        transient=True,
        redirect_stdout=False,  # what a script prints is not the display's to catch
        redirect_stderr=sys.stderr.isatty(),  # talk appears above the display, unless it goes to a file
    )
    with progress:
        yield _LiveProgress(output, progress)


class _LiveProgress:
    def __init__(self, output: Output, progress: Progress) -> None:
        self._output = output
        self._progress = progress
        self._task = progress.add_task("Looking…", total=None)
        self._label = ""

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(plan=plan):
                self._output.say(*warning_lines(plan.warnings))
                self._progress.update(self._task, total=len(plan.steps), completed=0)
            case StepStarted(step=step):
                self._label = printable(step.migration.label)
                self._describe(self._label)
            case StatementDone(number=number, count=count):
                self._describe(f"{self._label}, statement {number}" + (f" of {count}" if count else ""))
            case Waiting(reason=reason):
                self._output.say(redact(reason))
                self._describe("Waiting…")
            case StepFinished(result=result):
                self._progress.console.print(_finished(result))
                self._progress.advance(self._task)
            case _:
                pass

    def _describe(self, text: str) -> None:
        self._progress.update(self._task, description=text)


def _console() -> Console:
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def _table(overview: Overview) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(STATUS_COLUMNS[0], no_wrap=True)
    for heading in STATUS_COLUMNS[1:]:
        table.add_column(heading, overflow="fold", no_wrap=heading.startswith(("Applied", "Took")))
    for row in overview.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: MigrationStatus) -> list[Text]:
    cells = [_text(cell) for cell in status_cells(row)]
    state, *flags = state_words(row)
    cells[2] = Text.assemble((state, _STYLES[row.state]), *((f", {flag}", "red") for flag in flags))
    return cells


def _finished(result: StepResult) -> Text:
    return Text.assemble(("✓ ", "green"), printable(step_line(result)))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)
