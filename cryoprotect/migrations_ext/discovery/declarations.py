"""Every declaration a script can make stands here once: its key, and what value it takes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Declared:
    """A checked value, and the line (1-based) that declares it."""

    value: Any
    line: int


def _environments(given: object) -> frozenset[str] | None:
    if given is None:
        return None
    labels = re.split(r"[\s,]+", given.strip(", \t")) if isinstance(given, str) else given
    if isinstance(labels, (list, tuple, set)) and labels and all(isinstance(i, str) and i.strip() for i in labels):
        return frozenset(i.strip() for i in labels)
    raise ValueError("takes the labels of one or more environments, such as development, staging")


def _transactional(given: object) -> bool:
    value = {"true": True, "false": False}.get(given.lower(), given) if isinstance(given, str) else given
    if isinstance(value, bool):
        return value
    raise ValueError("takes true or false")


KEYS: Mapping[str, Callable[[object], Any]] = {
    "environments": _environments,
    "transactional": _transactional,
}
"""Key -> reader of what stands behind it: the text of an SQL comment or a Python literal. It returns the value of
the field of that name in `Header`, or raises `ValueError` with the end of a sentence that starts with the key."""

EXAMPLES: Mapping[str, str] = {
    "environments": '("development", "staging")',
    "transactional": "False",
}
"""Key -> a value as Python writes it, for the hints of errors."""

PART_KEYS = frozenset({"transactional"})
"""What apply part and rollback part can each declare for themselves."""


def nearest_key(word: str) -> str | None:
    """Return the known key that `word`, which is none, was probably meant to be."""
    close = difflib.get_close_matches(word.lower().replace("-", "_"), KEYS, n=1, cutoff=0.8)
    return close[0] if close else None
