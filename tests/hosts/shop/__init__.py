"""A host of another shape than ours: a module-level app, no factory, a bind behind a creator, its own /admin."""

import os

import psycopg2
import sqlalchemy as sa
from flask import Blueprint, Flask
from flask_sqlalchemy import SQLAlchemy

from cryoprotect.migrations_ext import Migrations

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_DB_MIGRATE_… and all others
app.config.setdefault("SQLALCHEMY_DATABASE_URI", "sqlite:///:memory:")
app.config["SQLALCHEMY_BINDS"] = {
    "warehouse": {
        "url": "postgresql+psycopg2://",
        "creator": lambda: psycopg2.connect(os.environ["WAREHOUSE_DSN"]),
        "pool_size": 1,
    }
}
db = SQLAlchemy(app)

with app.app_context():

    @sa.event.listens_for(db.engines["warehouse"], "connect")
    def _use_the_schema(connection, _record):
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA IF NOT EXISTS stock; SET search_path TO stock")
        connection.commit()


admin = Blueprint("admin", __name__, url_prefix="/admin")


@admin.get("/")
def index():
    return "the shop's own admin"


app.register_blueprint(admin)
Migrations(db).init_app(app)
