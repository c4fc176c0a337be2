"""What a host says and what it gets: the rules of `init_app`, the settings, the engine, the folder, the commands."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from cryoprotect.migrations_ext import Migrations
from cryoprotect.migrations_ext.api import Manager
from cryoprotect.migrations_ext.errors import ConfigurationError
from cryoprotect.migrations_ext.extension import AppMigrations
from cryoprotect.migrations_ext.model import Direction

from .conftest import ROOT, Database

MakeApp = Callable[..., Flask]
only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def host(tmp_path: Path, **config: Any) -> tuple[Flask, SQLAlchemy]:
    """An app with Flask-SQLAlchemy and without us."""
    app = Flask("some_host", root_path=str(tmp_path))
    app.config.update(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'host.sqlite'}",
        SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool},
    )
    app.config.update(config)
    db = SQLAlchemy(app)
    return app, db


def refused(app: Flask, db: SQLAlchemy | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        Migrations(db).init_app(app)
    return caught.value


def state_of(app: Flask) -> AppMigrations:
    found = app.extensions["db_migrate"]
    assert isinstance(found, AppMigrations)
    return found


class TestInitApp:
    def test_both_ways_of_a_flask_extension(self, tmp_path: Path) -> None:
        app, db = host(tmp_path)
        Migrations(db, app)
        assert state_of(app).settings.table == "migrations"
        other, _ = host(tmp_path)
        Migrations().init_app(other)  # the app's own SQLAlchemy object is found
        assert state_of(other).engine.dialect.name == "sqlite"

    def test_one_object_serves_many_apps(self, tmp_path: Path) -> None:
        db, migrations = SQLAlchemy(), Migrations()
        for name in ("one", "two"):
            app = Flask(name, root_path=str(tmp_path))
            app.config.update(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / name}.sqlite", DB_MIGRATE_TABLE=name)
            db.init_app(app)
            migrations.init_app(app)
            assert state_of(app).settings.table == name
            assert state_of(app).engine.url.database == str(tmp_path / f"{name}.sqlite")

    def test_a_second_time_is_refused_with_the_way_out(self, tmp_path: Path) -> None:
        app, db = host(tmp_path)
        Migrations(db, app)
        error = refused(app, db)
        assert error.message == "Migrations was initialised for this app already."
        assert error.hint is not None
        assert "app.extensions['db_migrate']" in error.hint

    @pytest.mark.parametrize("given", [True, False])
    def test_before_the_database_is_refused(self, tmp_path: Path, given: bool) -> None:
        app = Flask("some_host", root_path=str(tmp_path))
        error = refused(app, SQLAlchemy() if given else None)
        assert "Flask-SQLAlchemy is not initialised" in error.message
        assert error.hint == "Call db.init_app(app) before migrations.init_app(app)."

    def test_somebody_else_s_database_object_is_refused(self, tmp_path: Path) -> None:
        app, _ = host(tmp_path)
        assert "is not the one of this app" in refused(app, SQLAlchemy()).message

    def test_what_was_refused_left_nothing_behind(self, tmp_path: Path) -> None:
        app, db = host(tmp_path, DB_MIGRATE_TABEL="x")
        refused(app, db)
        assert "db_migrate" not in app.extensions
        assert "db_migrate" not in app.blueprints
        del app.config["DB_MIGRATE_TABEL"]
        Migrations(db).init_app(app)

    def test_an_unknown_key_is_refused_with_the_one_that_was_meant(self, tmp_path: Path) -> None:
        app, db = host(tmp_path, DB_MIGRATE_TABEL="x")
        error = refused(app, db)
        assert error.message == "DB_MIGRATE_TABEL is not a setting."
        assert error.hint == "Did you mean DB_MIGRATE_TABLE?"

    def test_an_unknown_environment_is_refused_with_the_known_ones(self, tmp_path: Path) -> None:
        app, db = host(tmp_path, DB_MIGRATE_ENVIRONMENT="prodution")
        error = refused(app, db)
        assert "Known are development, testing, staging, production." in error.message
        assert "Did you mean 'production'?" in (error.hint or "")

    @pytest.mark.parametrize("environment", ["testing", "staging", "production"])
    def test_apply_on_boot_exists_in_development_only(self, tmp_path: Path, environment: str) -> None:
        app, db = host(tmp_path, DB_MIGRATE_ENVIRONMENT=environment, DB_MIGRATE_ON_BOOT="apply")
        error = refused(app, db)
        assert "exists in development only" in error.message
        assert "'check' or 'require'" in (error.hint or "")

    def test_who_may_can_be_said_later(self, tmp_path: Path) -> None:
        app, db = host(tmp_path)
        migrations = Migrations(db, app, identify=lambda: "alice")
        migrations.authorize = lambda action: action == "view"
        state = state_of(app)
        assert state.identify is not None
        assert state.identify() == "alice"
        assert state.authorize is not None
        assert state.authorize("view")
        assert not state.authorize("apply")

    def test_the_admin_page_is_where_the_host_wants_it_or_nowhere(self, tmp_path: Path) -> None:
        app, db = host(tmp_path, DB_MIGRATE_URL_PREFIX="/ops/db")
        Migrations(db, app)
        assert app.test_client().get("/ops/db/health").status_code in (200, 503)
        app, db = host(tmp_path, DB_MIGRATE_ADMIN=False)
        Migrations(db, app)
        assert app.test_client().get("/admin/migrations/health").status_code == 404


class TestEngine:
    """The app's own engine, another bind, a direct URL; what does not work is said at once, with the cure."""

    def test_the_app_s_own(self, make_app: MakeApp) -> None:
        app = make_app()
        with app.app_context():
            assert state_of(app).engine is app.extensions["sqlalchemy"].engine

    def test_another_bind(self, tmp_path: Path) -> None:
        app, db = host(tmp_path, SQLALCHEMY_BINDS={"audit": "sqlite://", "log": "sqlite://"}, DB_MIGRATE_BIND="audit")
        Migrations(db, app)
        with app.app_context():
            assert state_of(app).engine is db.engines["audit"]

    def test_an_unknown_bind_names_the_known_ones(self, tmp_path: Path) -> None:
        app, db = host(tmp_path, SQLALCHEMY_BINDS={"audit": "sqlite://", "log": "sqlite://"}, DB_MIGRATE_BIND="adit")
        assert "(known: audit, log)" in refused(app, db).message

    def test_an_app_with_binds_only_has_to_name_one(self, tmp_path: Path) -> None:
        app = Flask("some_host", root_path=str(tmp_path))
        app.config["SQLALCHEMY_BINDS"] = {"audit": "sqlite://"}
        error = refused(app, SQLAlchemy(app))
        assert "no SQLALCHEMY_DATABASE_URI" in error.message
        assert "DB_MIGRATE_BIND (known: audit)" in (error.hint or "")

    def test_a_direct_url_is_an_engine_of_its_own_without_a_pool(self, database: Database, make_app: MakeApp) -> None:
        app = make_app(
            SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_ENGINE_OPTIONS={}, DB_MIGRATE_DATABASE_URL=database.url
        )
        engine = state_of(app).engine
        assert engine.url.render_as_string(hide_password=False) == database.url
        assert isinstance(engine.pool, sa.NullPool)
        with app.app_context():
            Manager.for_app(app).initialize()
        assert "migrations" in database.tables()

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
    def test_of_a_direct_url_the_driver_is_psycopg2_on_every_sqlalchemy(self, tmp_path: Path, scheme: str) -> None:
        app, db = host(tmp_path, DB_MIGRATE_DATABASE_URL=f"{scheme}://bob:s3cr3t@db01/shop")
        Migrations(db, app)
        assert state_of(app).engine.dialect.driver == "psycopg2"

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql+asyncpg://bob:s3cr3t@db01/shop",
            "mysql+pymysql://bob:s3cr3t@db01/shop",
            "oracle://bob:s3cr3t@db01/shop",
            "nosuch://bob:s3cr3t@db01/shop",
            "bob:s3cr3t@db01/shop",
            "postgresql://bob:s3cr3t@db01:port/shop",
        ],
    )
    def test_a_direct_url_that_cannot_work_is_refused_without_being_repeated(self, tmp_path: Path, url: str) -> None:
        app, db = host(tmp_path, DB_MIGRATE_DATABASE_URL=url)
        error = refused(app, db)
        assert "postgresql+psycopg2://" in (error.hint or "")
        assert "s3cr3t" not in f"{error.message} {error.hint}"

    def test_another_driver_is_refused_with_the_cure(self, tmp_path: Path) -> None:
        app, db = host_with_driver(tmp_path, "postgresql+pg8000://bob:s3cr3t@db01/shop")
        error = refused(app, db)
        assert error.message == "The app's engine uses the driver 'pg8000'; this tool works over 'psycopg2'."
        assert "postgresql+psycopg2://" in (error.hint or "")
        assert "SQLAlchemy 2.1 reads postgresql:// as psycopg 3" in (error.hint or "")

    def test_another_database_is_refused_with_the_cure(self, tmp_path: Path) -> None:
        app, db = host_with_driver(tmp_path, "mysql+pymysql://bob:s3cr3t@db01/shop")
        error = refused(app, db)
        assert error.message == "mysql databases are not supported; this tool runs on PostgreSQL and SQLite."
        assert "DB_MIGRATE_BIND" in (error.hint or "")


def host_with_driver(tmp_path: Path, url: str) -> tuple[Flask, SQLAlchemy]:
    """An app whose engine is for a driver that is not installed here; nothing of it is called before connecting."""
    module = SimpleNamespace(**vars(sqlite3) | {"__version__": "1.31.2"})
    return host(tmp_path, SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_ENGINE_OPTIONS={"module": module})


class TestDirectory:
    """A relative folder starts where the app's package or module lies, whoever starts the app from wherever."""

    HOST = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from cryoprotect.migrations_ext import Migrations

app = Flask(__name__)
app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", DB_MIGRATE_ON_BOOT="off")
Migrations(SQLAlchemy(app), app)
if __name__ == "__main__":
    print(app.extensions["db_migrate"].directory)
"""

    @pytest.fixture
    def ask(self, tmp_path: Path) -> Callable[..., Path]:
        """Import an app from another folder than its own, and ask for its directory."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        project = tmp_path / "project"

        def ask_(file: str, *command: str) -> Path:
            path = project / file
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in path.relative_to(project).parents[:-1]:
                (project / folder / "__init__.py").touch()
            path.write_text(self.HOST)
            done = subprocess.run(
                [sys.executable, *command],
                cwd=elsewhere,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{project}{os.pathsep}{ROOT}"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return Path(done.stdout.strip()).relative_to(project)

        return ask_

    @pytest.mark.parametrize(
        ("file", "module"),
        [
            ("shop.py", "shop"),
            ("shop/__init__.py", "shop"),
            ("shop/web.py", "shop.web"),
            ("shop/web/__init__.py", "shop.web"),
            ("shop/web/main.py", "shop.web.main"),
        ],
    )
    def test_beside_the_outermost_package(self, ask: Callable[..., Path], file: str, module: str) -> None:
        code = f"import sys, {module}; print(sys.modules['{module}'].app.extensions['db_migrate'].directory)"
        assert ask(file, "-c", code) == Path("migration_scripts")

    def test_a_stray_init_file_beside_a_module_changes_nothing(self, ask: Callable[..., Path], tmp_path: Path) -> None:
        (tmp_path / "project").mkdir()
        (tmp_path / "project" / "__init__.py").touch()
        code = "import shop; print(shop.app.extensions['db_migrate'].directory)"
        assert ask("shop.py", "-c", code) == Path("migration_scripts")

    def test_of_a_module_that_is_run(self, ask: Callable[..., Path], tmp_path: Path) -> None:
        assert ask("shop/web.py", "-m", "shop.web") == Path("migration_scripts")
        assert ask("shop.py", str(tmp_path / "project" / "shop.py")) == Path("migration_scripts")

    def test_an_absolute_one_stays_as_it_is(self, make_app: MakeApp, tmp_path: Path) -> None:
        app = make_app(DB_MIGRATE_DIRECTORY=str(tmp_path / "else" / ".." / "scripts"))
        assert state_of(app).directory == tmp_path / "scripts"

    def test_a_root_path_of_the_host_s_choice_counts(self, make_app: MakeApp, tmp_path: Path) -> None:
        assert state_of(make_app(DB_MIGRATE_DIRECTORY="sub/scripts")).directory == tmp_path / "sub" / "scripts"


class TestWhatTheHostGets:
    @only_sqlite
    def test_the_commands(self, app: Flask) -> None:
        result = app.test_cli_runner().invoke(args=["db-migrate", "status", "--format", "json"])
        assert (result.exit_code, json.loads(result.stdout)) == (0, {})

    @only_sqlite
    def test_the_environment_in_force(self, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
        app = make_app(DB_MIGRATE_ENVIRONMENT=None)
        assert state_of(app).environment() == "production"
        app.debug = True
        assert state_of(app).environment() == "development"
        monkeypatch.setenv("DB_MIGRATE_ENVIRONMENT", "staging")
        assert state_of(app).environment() == "staging"
        assert state_of(app).environment("testing") == "testing"

    def test_settings_can_be_laid_over_for_one_call(self, make_app: MakeApp) -> None:
        state = state_of(make_app(DB_MIGRATE_TABLE="ours"))
        other = state.with_config({"DB_MIGRATE_SCHEMA": "tools"})
        assert (other.settings.table, other.settings.schema) == ("ours", "tools")
        assert (state.settings.schema, other.engine) == (None, state.engine)
        with pytest.raises(ConfigurationError):
            state.with_config({"DB_MIGRATE_SHEMA": "tools"})

    def test_a_manager(self, app: Flask, write_script: Callable[[str, str], Path]) -> None:
        write_script("001_a.sql", "create table a (id integer);")
        with app.app_context():
            plan = Manager.for_app().plan(Direction.APPLY)
        assert [step.migration.label for step in plan.steps] == ["001_a"]


class TestCost:
    """What the extension adds to the start of an app, and what it leaves to those who use it."""

    CODE = """
import json, sys
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
app = Flask("shop", root_path=sys.argv[1])
app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", **json.loads(sys.argv[2]))
db = SQLAlchemy(app)
before = set(sys.modules)
from cryoprotect.migrations_ext import Migrations
Migrations(db, app)
print(json.dumps(sorted(set(sys.modules) - before)))
"""

    def loaded(self, tmp_path: Path, **config: Any) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", self.CODE, str(tmp_path), json.dumps(config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return set(json.loads(done.stdout.splitlines()[-1]))

    @pytest.mark.parametrize("on_boot", ["off", "apply"])
    def test_an_app_with_everything_loads_no_library_that_it_does_not_use_yet(
        self, tmp_path: Path, on_boot: str
    ) -> None:
        (tmp_path / "migration_scripts").mkdir()
        (tmp_path / "migration_scripts" / "001_a.sql").write_text("create table a (id integer);")
        names = self.loaded(tmp_path, DB_MIGRATE_ENVIRONMENT="development", DB_MIGRATE_ON_BOOT=on_boot)
        assert not {name.partition(".")[0] for name in names} & {"alembic", "mako", "rich", "pygments", "psycopg2"}

    def test_without_the_admin_page_that_is_not_loaded_either(self, tmp_path: Path) -> None:
        names = self.loaded(tmp_path, DB_MIGRATE_ENVIRONMENT="production", DB_MIGRATE_ADMIN=False)
        assert not {name for name in names if name.startswith("cryoprotect.migrations_ext.admin")}
