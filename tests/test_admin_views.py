"""The admin page as a browser gets it: states, access, headers, and that looking changes nothing."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, abort
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from cryoprotect.migrations_ext import MigrationFailed, Migrations
from cryoprotect.migrations_ext.api import Manager

PREFIX = "/admin/migrations"
STRANGER = {"REMOTE_ADDR": "203.0.113.9"}
COUNTS = {"applied", "pending", "skipped", "interrupted", "edited", "missing", "out_of_order", "unusable"}

WriteScript = Callable[[str, str], Path]
MakeAdmin = Callable[..., Flask]


@pytest.fixture
def make_admin(database: Any, scripts: Path) -> MakeAdmin:
    """Build an app with the admin page, with the host's callbacks."""

    def make(*, identify: Any = None, authorize: Any = None, **config: Any) -> Flask:
        app = Flask("some_host", root_path=str(scripts.parent))
        app.config.update(
            SQLALCHEMY_DATABASE_URI=database.url,
            SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool},
            DB_MIGRATE_DIRECTORY=str(scripts),
            DB_MIGRATE_ENVIRONMENT="development",
            DB_MIGRATE_ON_BOOT="off",
        )
        app.config.update(config)
        db = SQLAlchemy()
        db.init_app(app)
        Migrations(db, identify=identify, authorize=authorize).init_app(app)
        return app

    return make


@pytest.fixture
def two_scripts(write_script: WriteScript) -> None:
    write_script(
        "001_orders.sql",
        """
        -- Orders, the first table.
        -- migrate:up

        CREATE TABLE orders (id integer PRIMARY KEY);
        -- migrate:down

        DROP TABLE orders;
        """,
    )
    write_script(
        "002_customers.py",
        '''
        """Customers and <b>their</b> names."""


        def apply(conn, environment):
            conn.sql("CREATE TABLE customers (id integer PRIMARY KEY)").execute()


        def rollback(conn, environment):
            conn.sql("DROP TABLE customers").execute()
        ''',
    )


def apply(app: Flask, **wanted: Any) -> None:
    with app.app_context():
        Manager.for_app(app).apply(**wanted)


def get(app: Flask | FlaskClient, path: str = "/", **environ: Any) -> TestResponse:
    client = app.test_client() if isinstance(app, Flask) else app
    return client.get(PREFIX + path, environ_overrides=environ, buffered=True)


def text_of(response: TestResponse) -> str:
    """What a person reads: no tags, spaces as one."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.text)).split())


def heading(response: TestResponse) -> str:
    found = re.findall(r"<h1[^>]*>(.*?)</h1>", response.text, re.DOTALL)
    assert len(found) == 1
    return unescape(re.sub(r"<[^>]*>", "", found[0])).strip()


# --- states ---


def test_no_migrations(make_admin: MakeAdmin) -> None:
    page = get(make_admin())
    assert page.status_code == 200
    assert heading(page) == "No migrations yet"
    assert "flask db-migrate new" in page.text


@pytest.mark.usefixtures("two_scripts")
def test_not_set_up_then_pending_then_up_to_date(make_admin: MakeAdmin) -> None:
    app = make_admin()
    page = get(app)
    assert heading(page) == "Not set up yet"
    assert "flask db-migrate apply" in page.text

    apply(app, target="001")
    page = get(app)
    assert heading(page) == "Pending"
    assert "Pending 1" in text_of(page)
    assert "Applied 1" in text_of(page)
    assert page.text.index("002_customers") < page.text.index("001_orders")

    apply(app)
    page = get(app)
    assert heading(page) == "Up to date"
    assert "Nothing, the lock is free" in text_of(page)
    assert "Apply succeeded" in text_of(page)
    assert "Intact" in text_of(page)


@pytest.mark.usefixtures("two_scripts")
def test_failed(make_admin: MakeAdmin, write_script: WriteScript) -> None:
    write_script("003_bad.sql", "CREATE TABLE fine (id integer);\nSELECT * FROM no_such_table;\n")
    app = make_admin()
    with pytest.raises(MigrationFailed):
        apply(app)
    page = get(app)
    assert heading(page) == "Failed"
    assert "003_bad" in page.text
    assert "no_such_table" in page.text
    assert "Apply failed" in text_of(page)
    assert "no_such_table" in get(app, "/migrations/003").text


@pytest.mark.usefixtures("two_scripts")
def test_interrupted(make_admin: MakeAdmin, database: Any) -> None:
    app = make_admin()
    apply(app)
    database.execute("UPDATE migrations SET status = 'running' WHERE version = '002'")
    page = get(app)
    assert heading(page) == "Interrupted"
    assert "002_customers" in page.text
    assert get(app, "/health").status_code == 503


@pytest.mark.usefixtures("two_scripts")
def test_running(make_admin: MakeAdmin, write_script: WriteScript, tmp_path: Path) -> None:
    app = make_admin(DB_MIGRATE_ACTOR="dora")
    apply(app)
    started, enough = tmp_path / "started", tmp_path / "enough"
    write_script(
        "003_slow.py",
        f"""
        import time
        from pathlib import Path


        def apply(conn, environment):
            Path({str(started)!r}).touch()
            for _ in range(600):
                if Path({str(enough)!r}).exists():
                    return
                time.sleep(0.05)
        """,
    )
    run = threading.Thread(target=apply, args=(app,))
    run.start()
    try:
        while run.is_alive() and not started.exists():
            time.sleep(0.02)
        page = get(app)
        health = get(app, "/health")
    finally:
        enough.touch()
        run.join()
    assert heading(page) == "Running"
    assert "dora" in text_of(page)
    assert "Apply is running" in text_of(page)
    assert health.status_code == 503
    assert heading(get(app)) == "Up to date"


@pytest.mark.usefixtures("two_scripts")
def test_edited_missing_and_out_of_order(make_admin: MakeAdmin, scripts: Path, write_script: WriteScript) -> None:
    write_script("005_late.sql", "CREATE TABLE late (id integer);\n")
    app = make_admin(DB_MIGRATE_ENVIRONMENT="staging", authorize=lambda _: True)
    apply(app)
    (scripts / "001_orders.sql").write_text("CREATE TABLE orders (id bigint PRIMARY KEY);\n")
    (scripts / "002_customers.py").unlink()
    write_script("003_between.sql", "CREATE TABLE between_them (id integer);\n")

    page = get(app)
    assert heading(page) == "Files and history disagree"
    assert "1 edited, 1 missing, 1 out of order" in text_of(page)

    edited = text_of(get(app, "/migrations/001"))
    assert "changed after it was applied" in edited
    assert "Checksum when applied" in edited
    gone = get(app, "/migrations/002")
    assert gone.status_code == 200
    assert "The file of this migration is gone." in text_of(gone)
    assert "higher number" in text_of(get(app, "/migrations/003"))


@pytest.mark.usefixtures("two_scripts")
def test_unusable_files_are_listed_with_the_cure(make_admin: MakeAdmin, write_script: WriteScript) -> None:
    write_script("2_twice.sql", "SELECT 1;\n")
    app = make_admin()
    page = get(app)
    assert heading(page) == "A script cannot be used"
    assert "2_twice.sql" in page.text
    assert get(app, "/health").status_code == 503
    assert get(app, "/health").json["unusable"] == 1


@pytest.mark.parametrize("path", ["/", "/migrations/001", "/health", "/nothing"])
def test_unreachable_database_and_no_word_of_its_password(
    make_admin: MakeAdmin, tmp_path: Path, path: str, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/nowhere/x.sqlite"
    if database.is_postgresql:
        url = "postgresql+psycopg2://someuser:canary%2Dword@127.0.0.1:1/nowhere?connect_timeout=2"
    app = make_admin(SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool})
    response = get(app, path)
    assert response.status_code == {"/": 200, "/migrations/001": 404, "/health": 503, "/nothing": 404}[path]
    if path == "/":
        assert heading(response) == "Database unreachable"
        assert "Not known" in text_of(response)
    if path == "/health":
        assert set(response.json.values()) == {None}
    for secret in ("canary", "someuser"):
        assert secret not in response.text + str(response.headers) + caplog.text


# --- a migration ---


@pytest.mark.usefixtures("two_scripts")
def test_the_source_of_each_part_with_its_lines(make_admin: MakeAdmin) -> None:
    page = get(make_admin(), "/migrations/001")
    assert heading(page).startswith("001_orders")
    assert "Orders, the first table." in text_of(page)
    assert text_of(page).index("CREATE TABLE orders") < text_of(page).index("DROP TABLE orders")
    assert 'id="apply-' in page.text
    assert 'id="rollback-' in page.text
    assert '<span class="k">CREATE</span>' in page.text
    script = get(make_admin(), "/migrations/002")
    assert 'id="script-9"' in script.text
    assert 'id="script-10"' not in script.text


@pytest.mark.usefixtures("two_scripts")
def test_what_scripts_and_visitors_write_stays_text(make_admin: MakeAdmin, write_script: WriteScript) -> None:
    write_script("003_bad.sql", "-- A </code><script>alert(1)</script> in a comment.\nSELECT 1;\n")
    app = make_admin(identify=lambda: "<i>mallory</i>", authorize=lambda _: True)
    for path in (
        "/",
        "/migrations/002",
        "/migrations/003",
        "/?q=<script>&show=<script>",
        "/<script>",
        "/migrations/<b>",
    ):
        page = get(app, path).text
        assert "<script" not in page
        assert "<i>mallory" not in page
        assert "<b>their" not in page
        assert "<b>," not in page


@pytest.mark.usefixtures("two_scripts")
@pytest.mark.parametrize(
    "version",
    [
        "003",
        "1",
        "..",
        "../../001_orders.sql",
        "001_orders",
        "001_orders.sql",
        "%2e%2e%2fx",
        "001/x",
        "%00",
        "0" * 4000,
    ],
)
def test_only_what_discovery_found_has_a_page(make_admin: MakeAdmin, version: str) -> None:
    assert get(make_admin(), f"/migrations/{version}").status_code == 404


def test_a_script_that_cannot_be_read_is_told(make_admin: MakeAdmin, scripts: Path) -> None:
    app = make_admin()
    (scripts / "001_latin.sql").write_bytes("-- caf\u00e9\nSELECT 1;\n".encode("latin-1"))
    page = get(app)
    assert page.status_code == 200
    assert "001_latin" in page.text


# --- the list ---


def test_a_long_list_is_cut_until_asked_for(make_admin: MakeAdmin, write_script: WriteScript) -> None:
    for number in range(1, 61):
        write_script(f"{number:03d}_step.sql", "SELECT 1;\n")
    app = make_admin()
    page = get(app)
    assert "060_step" in page.text
    assert "005_step" not in page.text
    assert "Show all 60" in text_of(page)
    assert "005_step" in get(app, "/?rows=all").text


@pytest.mark.usefixtures("two_scripts")
def test_the_filter_works_without_a_script(make_admin: MakeAdmin) -> None:
    app = make_admin()
    assert "001_orders" not in get(app, "/?q=customers").text
    assert "No migration matches." in text_of(get(app, "/?q=nothing"))
    assert "No migration matches." in text_of(get(app, "/?show=applied"))
    assert get(app, "/?show=sideways").status_code == 200


# --- who may ---

PATHS = ("/", "/?q=x", "/migrations/001", "/migrations/999", "/static/admin.css", "/static/../views.py", "/nothing")


@pytest.mark.usefixtures("two_scripts")
@pytest.mark.parametrize("environment", ["testing", "staging", "production"])
@pytest.mark.parametrize("environ", [{}, STRANGER, {"HTTP_HOST": "example.org"}, {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}])
def test_outside_development_it_is_closed_and_tells_nothing(
    make_admin: MakeAdmin, environment: str, environ: dict[str, str]
) -> None:
    app = make_admin(DB_MIGRATE_ENVIRONMENT=environment)
    for path in PATHS:
        response = get(app, path, **environ)
        assert (response.status_code, response.text) == (403, "Forbidden\n")


@pytest.mark.usefixtures("two_scripts")
@pytest.mark.parametrize(
    "environ",
    [
        STRANGER,
        {"HTTP_HOST": "example.org"},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
    ],
)
def test_in_development_a_developer_is_told_what_opens_it(make_admin: MakeAdmin, environ: dict[str, str]) -> None:
    app = make_admin()
    for path in PATHS:
        response = get(app, path, **environ)
        if path.startswith("/static"):
            continue
        assert response.status_code == 403
        assert "migrations.authorize = lambda action:" in response.text
        assert "migrations.identify = lambda:" in response.text
        assert "orders" not in response.text
    assert get(app, "/static/admin.css", **environ).status_code == 200


@pytest.mark.usefixtures("two_scripts")
def test_debug_mode_tells_a_developer_in_any_environment(make_admin: MakeAdmin) -> None:
    app = make_admin(DB_MIGRATE_ENVIRONMENT="production")
    app.debug = True
    response = get(app)
    assert response.status_code == 403
    assert "migrations.authorize = lambda action:" in response.text


@pytest.mark.usefixtures("two_scripts")
@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_the_callbacks_open_and_close_it_everywhere(make_admin: MakeAdmin, environment: str) -> None:
    opened = make_admin(
        authorize=lambda action: action == "view", identify=lambda: "Alice Liddell", DB_MIGRATE_ENVIRONMENT=environment
    )
    page = get(opened, **STRANGER)
    assert page.status_code == 200
    assert "Alice Liddell" in page.text
    assert ("band-production" in page.text) is (environment == "production")

    def nobody() -> str:
        raise AssertionError("whoever may not see the page is not asked for a name")

    closed = make_admin(authorize=lambda _: False, identify=nobody, DB_MIGRATE_ENVIRONMENT=environment)
    assert get(closed).text == "Forbidden\n"


@pytest.mark.usefixtures("two_scripts")
def test_a_callback_that_answers_nonsense_opens_nothing(make_admin: MakeAdmin) -> None:
    app = make_admin(authorize=lambda _: ("Please log in", 302))
    response = get(app)
    assert (response.status_code, response.text) == (500, "Internal Server Error\n")
    app.debug = True
    assert "True or False" in get(app).text


@pytest.mark.usefixtures("two_scripts")
def test_a_callback_may_end_the_request_itself(make_admin: MakeAdmin) -> None:
    app = make_admin(authorize=lambda _: abort(401))
    assert get(app).status_code == 401


def test_it_is_not_there_where_the_host_does_not_want_it(make_admin: MakeAdmin) -> None:
    assert get(make_admin(DB_MIGRATE_ADMIN=False)).status_code == 404


# --- health ---


@pytest.mark.usefixtures("two_scripts")
@pytest.mark.parametrize("environment", ["development", "production"])
def test_health_gives_counts_to_anybody_and_nothing_else(make_admin: MakeAdmin, environment: str) -> None:
    app = make_admin(DB_MIGRATE_ENVIRONMENT=environment, authorize=lambda _: False)
    before = get(app, "/health", **STRANGER, HTTP_X_FORWARDED_FOR="198.51.100.1")
    assert before.status_code == 503
    assert before.json == dict.fromkeys(COUNTS, 0) | {"pending": 2}
    apply(app)
    after = get(app, "/health", **STRANGER)
    assert after.status_code == 200
    assert after.json == dict.fromkeys(COUNTS, 0) | {"applied": 2}


@pytest.mark.usefixtures("two_scripts")
def test_servers_of_an_older_release_are_well(make_admin: MakeAdmin, scripts: Path) -> None:
    app = make_admin(DB_MIGRATE_ENVIRONMENT="production")
    apply(app)
    (scripts / "002_customers.py").unlink()
    response = get(app, "/health")
    assert (response.status_code, response.json["missing"]) == (200, 1)


def test_health_without_its_folder_is_not_well(make_admin: MakeAdmin, scripts: Path) -> None:
    app = make_admin()
    scripts.rmdir()
    assert get(app, "/health").status_code == 503
    assert get(app).status_code == 200


def test_a_table_of_somebody_else_is_told_with_the_cure(make_admin: MakeAdmin, database: Any) -> None:
    database.execute("CREATE TABLE migrations (id integer, batch integer)")
    app = make_admin()
    page = get(app)
    assert page.status_code == 500
    assert "DB_MIGRATE_TABLE" in page.text
    assert get(app, "/health").status_code == 503


# --- headers and hosts ---


@pytest.mark.usefixtures("two_scripts")
@pytest.mark.parametrize(
    "path", ["/", "/migrations/001", "/migrations/999", "/health", "/nothing", "/static/admin.css"]
)
@pytest.mark.parametrize("environ", [{}, STRANGER])
def test_every_answer_has_the_security_headers(make_admin: MakeAdmin, path: str, environ: dict[str, str]) -> None:
    response = get(make_admin(), path, **environ)
    policy = response.headers["Content-Security-Policy"]
    for part in ("default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
        assert part in policy
    assert "unsafe" not in policy
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    if not path.startswith("/static"):
        assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers


@pytest.mark.usefixtures("two_scripts")
def test_other_pages_of_the_host_keep_their_headers(make_admin: MakeAdmin) -> None:
    app = make_admin()
    app.add_url_rule("/", "home", lambda: "home")
    assert "Content-Security-Policy" not in app.test_client().get("/").headers


@pytest.mark.usefixtures("two_scripts")
def test_no_inline_script_or_style_and_nothing_from_elsewhere(make_admin: MakeAdmin) -> None:
    app = make_admin()
    apply(app, target="001")
    for path in ("/", "/migrations/001", "/migrations/002", "/nothing"):
        html = get(app, path).text
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", html)
        assert not re.search(r"""(?:href|src|action)=["'](?:https?:)?//""", html)
        assert html.count("<h1") == 1
        assert '<html lang="en">' in html


@pytest.mark.usefixtures("two_scripts")
def test_below_a_sub_path_and_behind_a_proxy(make_admin: MakeAdmin) -> None:
    app = make_admin(authorize=lambda _: True, DB_MIGRATE_ENVIRONMENT="production")
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_host=1, x_proto=1, x_prefix=1)  # type: ignore[method-assign]
    page = get(
        app, HTTP_X_FORWARDED_FOR="198.51.100.1", HTTP_X_FORWARDED_HOST="ops.example", HTTP_X_FORWARDED_PREFIX="/app"
    )
    links = re.findall(r'(?:href|action)="([^"#]*)"', page.text)
    assert links
    assert all(link.startswith(f"/app{PREFIX}/") for link in links)


@pytest.mark.usefixtures("two_scripts")
def test_at_another_address(make_admin: MakeAdmin) -> None:
    app = make_admin(DB_MIGRATE_URL_PREFIX="/ops/db")
    assert app.test_client().get("/ops/db/").status_code == 200
    assert app.test_client().get(f"{PREFIX}/").status_code == 404


@pytest.mark.usefixtures("two_scripts")
def test_what_a_host_does_to_its_templates_does_not_reach_ours(make_admin: MakeAdmin) -> None:
    app = make_admin()
    app.jinja_options = {"variable_start_string": "[[", "variable_end_string": "]]"}

    @app.context_processor
    def asks_a_database_that_is_down() -> dict[str, Any]:
        raise RuntimeError("the database is down")

    assert app.secret_key is None
    assert heading(get(app)) == "Not set up yet"


# --- looking changes nothing ---


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name in ("href", "src") and value and value[0] != "#"}


def _everything_in(database: Any) -> dict[str, list[Any]]:
    return {table: sorted(database.query(f'SELECT * FROM "{table}"'), key=repr) for table in database.tables()}


@pytest.mark.usefixtures("two_scripts")
@pytest.mark.parametrize("applied", [None, "001", "002"])
def test_looking_changes_nothing(make_admin: MakeAdmin, database: Any, scripts: Path, applied: str | None) -> None:
    app = make_admin()
    if applied:
        apply(app, target=applied)
    before = _everything_in(database)
    files = {path: path.read_bytes() for path in scripts.rglob("*") if path.is_file()}

    client, seen, waiting = app.test_client(), set(), {f"{PREFIX}/", f"{PREFIX}/health", f"{PREFIX}/nothing"}
    while waiting:
        url = waiting.pop()
        seen.add(url)
        response = client.get(url, buffered=True)
        assert response.status_code in (200, 503 if url.endswith("/health") else 404, 200)
        if response.mimetype == "text/html":
            links = _Links()
            links.feed(response.text)
            waiting |= links.found - seen
    assert any("migrations/001" in url for url in seen)

    for url in seen:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert client.open(url, method=method, buffered=True).status_code == 405
    assert _everything_in(database) == before
    assert {path: path.read_bytes() for path in scripts.rglob("*") if path.is_file()} == files
