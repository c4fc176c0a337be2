"""How the admin page looks in a real browser: both themes, narrow and wide, by keyboard, without scripts, on paper."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from cryoprotect.migrations_ext.admin import rendering
from cryoprotect.migrations_ext.api import Manager

STYLE = (rendering.HERE / "static" / "admin.css").read_text(encoding="utf-8")
THEMES = ("light", "dark")
INKS = ("text", "muted", "link", "ok", "warn", "bad")


@pytest.fixture
def address(app: Flask, write_script: Callable[[str, str], Path]) -> Iterator[str]:
    """The page with one applied and one pending migration, served on a real socket."""
    write_script(
        "001_orders.sql",
        f"-- The first table, with quite a long description that has to be broken on a telephone.\n"
        f"-- migrate:up\n"
        f"CREATE TABLE orders (id integer); -- {'a very long line ' * 20}\n-- migrate:down\nDROP TABLE orders;\n",
    )
    with app.app_context():
        Manager.for_app(app).apply()
    write_script(f"002_{'a_long_name_without_any_space_' * 3}.sql", "-- environments: development\nSELECT 1;\n")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/admin/migrations"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open a path in a window of its own; what the browser complains about fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_(path: str = "/", *, width: int = 1280, theme: str = "light", **wanted: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 720}, color_scheme=theme, **wanted)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@only_sqlite
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_scrolls_sideways_but_code(open_page: Callable[..., Any], address: str, width: int, theme: str) -> None:
    page = open_page(width=width, theme=theme)
    for path in ("/", "/?q=nothing", "/migrations/002", "/migrations/001"):
        page.goto(address + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    code = page.locator("pre.code").first
    assert code.evaluate("e => e.scrollWidth > e.clientWidth")


@only_sqlite
def test_each_theme_has_its_colours(open_page: Callable[..., Any]) -> None:
    ground = {theme: _style(open_page(theme=theme).locator("body"), "background-color") for theme in THEMES}
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}


@only_sqlite
def test_the_answers_are_there_before_anybody_scrolls(open_page: Callable[..., Any]) -> None:
    page = open_page()
    for text in ("development", "test.sqlite", "Running now", "Last run", "History", "flask db-migrate apply"):
        box = page.get_by_text(text, exact=True).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 720
    assert page.get_by_role("heading", level=1).inner_text() == "Pending"


@only_sqlite
def test_by_keyboard(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to the content"
    assert _style(skip, "outline-style") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@only_sqlite
def test_without_scripts(open_page: Callable[..., Any]) -> None:
    page = open_page(java_script_enabled=False)
    page.get_by_label("Filter").fill("orders")
    page.get_by_role("button", name="Find").click()
    assert [row.inner_text() for row in page.locator("th[scope=row] a").all()] == ["001_orders"]
    page.get_by_role("link", name="Pending 0").click()
    page.get_by_role("link", name="Show all 2").click()
    page.get_by_role("link", name="001_orders").click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("001_orders")


@only_sqlite
def test_on_paper(open_page: Callable[..., Any]) -> None:
    page = open_page(theme="dark")
    page.emulate_media(media="print")
    assert not page.get_by_role("navigation", name="Migrations").is_visible()
    assert not page.locator(".filter").is_visible()
    assert page.get_by_role("heading", level=1).is_visible()
    assert _style(page.locator("body"), "background-color") == "rgb(255, 255, 255)"


def _style(locator: Any, name: str) -> Any:
    return locator.evaluate("(e, name) => getComputedStyle(e).getPropertyValue(name)", name)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ink", INKS)
def test_every_ink_can_be_read(ink: str, theme: str) -> None:
    for ground in ("ground", "raised"):
        assert _contrast(_token(ink, theme), _token(ground, theme)) >= 4.5


def _token(name: str, theme: str) -> str:
    found = re.search(rf"--{name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", STYLE)
    assert found is not None
    return found[1 + THEMES.index(theme)]


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
