"""How Sphinx makes the site of these pages: `sphinx-build -W -b html docs build/docs`."""

from __future__ import annotations

project = "CryoProtect migrations"
author = "CryoProtect maintainers"
html_title = "CryoProtect migrations"

extensions = ["myst_parser"]
root_doc = "index"
templates_path: list[str] = []
exclude_patterns = ["build", "_build"]

# `[text](page.md#heading)` works here as it does where the files are read as they are.
myst_heading_anchors = 4

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
pygments_style = "default"
pygments_dark_style = "github-dark"
