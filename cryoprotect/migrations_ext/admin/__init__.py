"""The admin page: the same API as the command line, in a browser."""

from __future__ import annotations

from .views import make_blueprint

__all__ = ["make_blueprint"]
