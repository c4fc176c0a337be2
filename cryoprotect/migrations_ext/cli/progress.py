"""What is happening, while it happens: a line per finished step in a pipe, a moving display on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..events import Event, Observer, RunStarted, StepFinished, Waiting
from ..redaction import redact
from .output import Output
from .text import step_line, warning_lines


@contextmanager
def shown(output: Output) -> Iterator[Observer]:
    """Yield the observer of a run that suits the output."""
    if output.is_terminal:
        from .terminal import live_progress  # rich is not for pipes

        with live_progress(output) as observer:
            yield observer
    else:
        yield PlainProgress(output)


class PlainProgress:
    """Steps go to stdout as they finish (not with JSON, which has them in its document); the rest is talk."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        match event:
            case RunStarted(plan=plan):
                self._output.say(*warning_lines(plan.warnings))
            case Waiting(reason=reason):
                self._output.say(redact(reason))
            case StepFinished(result=result) if not self._output.is_json:
                self._output.lines([step_line(result)])
            case _:
                pass
