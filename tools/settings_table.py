"""Write the table of settings, made from `settings.py`, into the README between its two marks."""

from __future__ import annotations

import re
from pathlib import Path

from cryoprotect.migrations_ext.settings import describe_settings

README = Path(__file__).resolve().parent.parent / "README.md"
_BETWEEN_MARKS = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)


def table() -> str:
    """Return the table in Markdown."""
    rows = [f"| `{setting.key}` | {setting.default} | {setting.doc} |" for setting in describe_settings()]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n"


def with_table(text: str) -> str:
    """Return the README's text with the table as it should be."""
    return _BETWEEN_MARKS.sub(lambda found: found[1] + table() + found[2], text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
