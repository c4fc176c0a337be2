"""Settings: every key, its type, and what each environment does by default."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cryoprotect.migrations_ext.errors import ConfigurationError
from cryoprotect.migrations_ext.model import OnBoot, Protection, Reaction
from cryoprotect.migrations_ext.settings import (
    ENVIRONMENTS,
    PREFIX,
    Policy,
    Settings,
    describe_settings,
)

KEYS = [
    "DIRECTORY",
    "TABLE",
    "SCHEMA",
    "BIND",
    "DATABASE_URL",
    "ENVIRONMENT",
    "ENVIRONMENTS",
    "ON_BOOT",
    "OUT_OF_ORDER",
    "EDITED",
    "MISSING",
    "PROTECT",
    "LOCK_WAIT",
    "LOCK_TIMEOUT",
    "STATEMENT_TIMEOUT",
    "RETRIES",
    "ACTOR",
    "URL_PREFIX",
    "ADMIN",
    "ADMIN_ACTIONS",
    "APP",
]


def read(**values: Any) -> Settings:
    return Settings.from_mapping({PREFIX + key: value for key, value in values.items()})


def refused(**values: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read(**values)
    return caught.value


class TestReading:
    def test_nothing_set_means_the_documented_defaults(self) -> None:
        settings = Settings.from_mapping({})
        assert settings.directory == "migration_scripts"
        assert settings.table == "migrations"
        assert settings.journal_table == "migrations_journal"
        assert settings.texts_table == "migrations_texts"
        assert (settings.lock_wait, settings.lock_timeout, settings.statement_timeout, settings.retries) == (
            60.0,
            2000,
            0,
            10,
        )
        assert settings.url_prefix == "/admin/migrations"
        assert settings.admin is True
        assert settings.admin_actions is None

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("DIRECTORY", "sql", "sql"),
            ("DIRECTORY", Path("/srv/sql"), "/srv/sql"),
            ("TABLE", "db_migrations", "db_migrations"),
            ("SCHEMA", "Tenant 1", "Tenant 1"),
            ("BIND", "archive", "archive"),
            ("DATABASE_URL", "postgresql://u:p@h/d", "postgresql://u:p@h/d"),
            ("ENVIRONMENT", "staging", "staging"),
            ("ENVIRONMENTS", ["qa", "demo", "qa"], ("qa", "demo")),
            ("ON_BOOT", "require", OnBoot.REQUIRE),
            ("ON_BOOT", OnBoot.OFF, OnBoot.OFF),
            ("OUT_OF_ORDER", "ignore", Reaction.IGNORE),
            ("EDITED", "warn", Reaction.WARN),
            ("MISSING", "error", Reaction.ERROR),
            ("PROTECT", "type-name", Protection.TYPE_NAME),
            ("LOCK_WAIT", 5, 5.0),
            ("LOCK_WAIT", 0.5, 0.5),
            ("LOCK_WAIT", 0, 0.0),
            ("LOCK_TIMEOUT", 500, 500),
            ("STATEMENT_TIMEOUT", 30_000, 30_000),
            ("RETRIES", 0, 0),
            ("ACTOR", "Ada Lovelace", "Ada Lovelace"),
            ("URL_PREFIX", "/ops", "/ops"),
            ("ADMIN", False, False),
            ("ADMIN_ACTIONS", True, True),
            ("APP", "wsgi:app", "wsgi:app"),
        ],
    )
    def test_every_key_is_read(self, key: str, value: Any, expected: Any) -> None:
        found = getattr(read(**{key: value}), key.lower())
        assert found == expected
        assert type(found) is type(expected)

    def test_the_documentation_lists_every_key_once(self) -> None:
        assert [line.key for line in describe_settings()] == [PREFIX + key for key in KEYS]
        assert all(line.doc.endswith(".") and line.default for line in describe_settings())

    @pytest.mark.parametrize("key", KEYS)
    def test_none_means_not_set(self, key: str) -> None:
        assert read(**{key: None}) == Settings()

    def test_other_keys_of_the_app_are_nobodys_business(self) -> None:
        assert Settings.from_mapping({"SECRET_KEY": 1, "DB_MIGRATIONS": 2, 3: 4}) == Settings()

    def test_the_result_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            Settings().table = "x"  # type: ignore[misc]


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            ("DIRECTRY", "DIRECTORY"),
            ("LOCKWAIT", "LOCK_WAIT"),
            ("ONBOOT", "ON_BOOT"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("OUT_OF_ORDRE", "OUT_OF_ORDER"),
        ],
    )
    def test_an_unknown_key_names_the_one_that_was_meant(self, given: str, meant: str) -> None:
        error = refused(**{given: "x"})
        assert error.message == f"DB_MIGRATE_{given} is not a setting."
        assert error.hint == f"Did you mean DB_MIGRATE_{meant}?"
        assert error.exit_code == 2

    def test_a_key_like_no_other_points_to_the_list(self) -> None:
        assert refused(ZZZZZZZZZZZZZZZZZZZZ=1).hint == "The README lists the settings."

    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            ("TABLE", 5, "must be a text"),
            ("TABLE", True, "must be a text"),
            ("ADMIN", "yes", "must be True or False"),
            ("ADMIN", 1, "must be True or False"),
            ("ADMIN_ACTIONS", "no", "must be True or False"),
            ("LOCK_TIMEOUT", "2000", "must be a whole number"),
            ("LOCK_TIMEOUT", 2.5, "must be a whole number"),
            ("LOCK_TIMEOUT", True, "must be a whole number"),
            ("LOCK_TIMEOUT", -1, "must be 0 or more"),
            ("LOCK_TIMEOUT", 2**31, "at most 2147483647"),
            ("STATEMENT_TIMEOUT", -5, "must be 0 or more"),
            ("RETRIES", -1, "must be 0 or more"),
            ("LOCK_WAIT", "60", "must be a number of seconds"),
            ("LOCK_WAIT", -0.1, "must be 0 or more"),
            ("LOCK_WAIT", float("nan"), "must be 0 or more"),
            ("ENVIRONMENTS", "qa", "must be a list of names"),
            ("ENVIRONMENTS", 5, "must be a list of names"),
            ("ENVIRONMENTS", ["qa", 5], "must be a list of names"),
            ("ENVIRONMENTS", [""], "no name for an environment"),
            ("ENVIRONMENTS", ["my label"], "no name for an environment"),
            ("ENVIRONMENTS", ["x" * 51], "no name for an environment"),
            ("ON_BOOT", True, "it can be off, apply, check, require"),
            ("EDITED", "fail", "it can be ignore, warn, error"),
            ("PROTECT", "typename", "it can be none, ask, type-name"),
            ("DIRECTORY", "", "is empty"),
            ("DIRECTORY", "a\nb", "control character"),
            ("DIRECTORY", "a\0b", "control character"),
            ("ACTOR", "", "is empty"),
            ("ACTOR", "x" * 256, "at most 255"),
            ("URL_PREFIX", "admin", "start of a path"),
            ("URL_PREFIX", "/a b", "start of a path"),
            ("URL_PREFIX", "/<x>", "start of a path"),
        ],
    )
    def test_a_value_that_cannot_be_used_is_said_with_its_key(self, key: str, value: Any, says: str) -> None:
        error = refused(**{key: value})
        assert f"DB_MIGRATE_{key}" in error.message
        assert says in error.message

    @pytest.mark.parametrize(
        ("key", "value", "meant"),
        [("ON_BOOT", "chekc", "check"), ("PROTECT", "typename", "type-name"), ("MISSING", "warning", "warn")],
    )
    def test_a_misspelt_choice_names_the_one_that_was_meant(self, key: str, value: str, meant: str) -> None:
        assert refused(**{key: value}).hint == f"Did you mean {meant!r}?"

    @pytest.mark.parametrize(
        "name",
        ['mig"rations', "mig rations", "a.b", "a%b", "a-b", "1st", "é", "x" * 46, "sqlite_migrations", "a;b", "a'b"],
    )
    def test_the_table_is_a_plain_identifier(self, name: str) -> None:
        error = refused(TABLE=name)
        assert repr(name) in error.message
        assert "letters, digits and `_`" in error.message
        assert error.hint is not None
        assert "DB_MIGRATE_SCHEMA" in error.hint

    @pytest.mark.parametrize("name", ["migrations", "_m", "M2", "x" * 45])
    def test_plain_names_of_tables_are_taken(self, name: str) -> None:
        assert read(TABLE=name).table == name

    @pytest.mark.parametrize("name", ['a"b', "a'b", "a%b", "a\tb", "a\0b", "x" * 64])
    def test_a_schema_holds_nothing_that_would_break_out_of_quotes(self, name: str) -> None:
        assert "DB_MIGRATE_SCHEMA" in refused(SCHEMA=name).message


class TestSecrets:
    def test_the_url_is_never_shown(self) -> None:
        settings = read(DATABASE_URL="postgresql://bob:hunter22@db/x")
        assert "hunter22" not in repr(settings)
        assert "hunter22" not in str(settings)

    @pytest.mark.parametrize(
        "value", [sa.make_url("postgresql://bob:hunter22@db/x"), [b"postgresql://bob:hunter22@db/x"]]
    )
    def test_not_even_when_it_is_of_a_wrong_type(self, value: Any) -> None:
        error = refused(DATABASE_URL=value)
        assert "hunter22" not in error.message + (error.hint or "")
        assert "it must be a text" in error.message


class TestEnvironment:
    def test_the_option_comes_first_then_config_then_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DB_MIGRATE_ENVIRONMENT", "testing")
        configured = read(ENVIRONMENT="staging")
        assert configured.resolve_environment("development") == "development"
        assert configured.resolve_environment() == "staging"
        assert configured.resolve_environment(debug=True) == "staging"
        assert Settings().resolve_environment() == "testing"
        assert Settings().resolve_environment(debug=True) == "testing"

    def test_nobody_said_anything(self) -> None:
        assert Settings().resolve_environment(debug=True) == "development"
        assert Settings().resolve_environment() == "production"

    def test_an_empty_variable_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DB_MIGRATE_ENVIRONMENT", "")
        assert Settings().resolve_environment() == "production"

    @pytest.mark.parametrize("where", ["option", "config", "variable"])
    def test_an_unknown_label_lists_the_known_ones(self, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = read(ENVIRONMENT="prodution" if where == "config" else None, ENVIRONMENTS=["demo"])
        if where == "variable":
            monkeypatch.setenv("DB_MIGRATE_ENVIRONMENT", "prodution")
        with pytest.raises(ConfigurationError) as caught:
            settings.resolve_environment("prodution" if where == "option" else None)
        assert "development, testing, staging, production, demo" in caught.value.message
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("Did you mean 'production'?")
        assert "DB_MIGRATE_ENVIRONMENTS" in caught.value.hint

    def test_own_labels_are_known(self) -> None:
        settings = read(ENVIRONMENTS=["demo", "staging"])
        assert settings.known_environments == (*ENVIRONMENTS, "demo")
        assert settings.resolve_environment("demo") == "demo"


# The table of the documentation, cell by cell: on boot, older pending, edited, gone, roll back more than one.
TABLE = {
    "development": ("apply", "warn", "warn", "warn", "none"),
    "testing": ("off", "ignore", "error", "error", "none"),
    "staging": ("check", "error", "error", "error", "ask"),
    "production": ("check", "error", "error", "error", "type-name"),
    "demo": ("check", "error", "error", "error", "ask"),
}


class TestPolicy:
    @pytest.mark.parametrize("environment", TABLE)
    def test_each_environment_behaves_as_its_column_says(self, environment: str) -> None:
        policy = read(ENVIRONMENTS=["demo"]).policy(environment)
        on_boot, out_of_order, edited, missing, protect = TABLE[environment]
        assert policy == Policy(
            OnBoot(on_boot), Reaction(out_of_order), Reaction(edited), Reaction(missing), Protection(protect)
        )

    @pytest.mark.parametrize("environment", TABLE)
    @pytest.mark.parametrize(
        ("key", "value"),
        [("ON_BOOT", "off"), ("OUT_OF_ORDER", "warn"), ("EDITED", "ignore"), ("MISSING", "ignore"), ("PROTECT", "ask")],
    )
    def test_every_cell_is_a_setting(self, environment: str, key: str, value: str) -> None:
        base = Settings().policy(environment)
        changed = read(**{key: value}).policy(environment)
        assert getattr(changed, key.lower()) == value
        others = {name for name in ("on_boot", "out_of_order", "edited", "missing", "protect") if name != key.lower()}
        assert all(getattr(changed, name) == getattr(base, name) for name in others)

    @pytest.mark.parametrize("environment", [e for e in TABLE if e != "development"])
    def test_apply_on_boot_exists_in_development_only(self, environment: str) -> None:
        settings = read(ON_BOOT="apply", ENVIRONMENTS=["demo"])
        assert settings.policy("development").on_boot is OnBoot.APPLY
        with pytest.raises(ConfigurationError) as caught:
            settings.policy(environment)
        assert "development only" in caught.value.message
        assert repr(environment) in caught.value.message
        assert caught.value.hint is not None
        assert "flask db-migrate apply" in caught.value.hint


class TestDirectory:
    def test_a_relative_folder_starts_at_the_base_and_not_at_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir("/")
        assert Settings().resolve_directory(tmp_path) == tmp_path / "migration_scripts"
        assert read(DIRECTORY="../sql").resolve_directory(tmp_path / "app") == tmp_path / "sql"

    def test_an_absolute_folder_is_itself(self, tmp_path: Path) -> None:
        assert read(DIRECTORY=tmp_path).resolve_directory(Path("/elsewhere")) == tmp_path

    def test_the_home_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert read(DIRECTORY="~/sql").resolve_directory(Path("/elsewhere")) == tmp_path / "sql"

    def test_a_home_directory_that_nobody_has(self) -> None:
        with pytest.raises(ConfigurationError, match="no such home directory"):
            read(DIRECTORY="~no_such_user_here/sql").resolve_directory(Path("/"))

    def test_links_stay_as_they_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert read(DIRECTORY="link").resolve_directory(tmp_path) == tmp_path / "link"


class TestActor:
    def test_the_setting_names_who(self) -> None:
        assert read(ACTOR="deploy bot").resolve_actor() == "deploy bot"

    def test_else_the_user_of_the_operating_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOGNAME", "ada")
        assert Settings().resolve_actor() == "ada"

    @pytest.mark.parametrize("error", [KeyError, OSError])
    def test_a_user_id_without_a_name(self, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody() -> str:
            raise error

        monkeypatch.setattr(getpass, "getuser", nobody)
        assert Settings().resolve_actor().startswith("uid ")
