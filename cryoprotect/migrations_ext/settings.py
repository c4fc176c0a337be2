"""The only reader of `DB_MIGRATE_*`: every setting, its type, its default and its meaning stand here once."""

from __future__ import annotations

import difflib
import getpass
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from .errors import ConfigurationError
from .model import OnBoot, Protection, Reaction

PREFIX = "DB_MIGRATE_"
ENVIRONMENTS = ("development", "testing", "staging", "production")


@dataclass(frozen=True, slots=True)
class Policy:
    """What one environment does about irregularities."""

    on_boot: OnBoot
    out_of_order: Reaction
    edited: Reaction
    missing: Reaction
    protect: Protection


_POLICIES = {
    "development": Policy(OnBoot.APPLY, Reaction.WARN, Reaction.WARN, Reaction.WARN, Protection.NONE),
    "testing": Policy(OnBoot.OFF, Reaction.IGNORE, Reaction.ERROR, Reaction.ERROR, Protection.NONE),
    "staging": Policy(OnBoot.CHECK, Reaction.ERROR, Reaction.ERROR, Reaction.ERROR, Protection.ASK),
    "production": Policy(OnBoot.CHECK, Reaction.ERROR, Reaction.ERROR, Reaction.ERROR, Protection.TYPE_NAME),
}


def _setting(
    default: Any, doc: str, *, shown: str | None = None, choices: type[StrEnum] | None = None, secret: bool = False
) -> Any:
    metadata = {"doc": doc, "shown": shown, "choices": choices}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a host can set, checked. `None` in a policy means: as the environment's column of the table says."""

    directory: str = _setting(
        "migration_scripts",
        "Folder of the scripts; a relative path starts at the folder that holds the app's package or module.",
    )
    table: str = _setting("migrations", "Tracking table; the journal is `<table>_journal`.")
    schema: str | None = _setting(
        None, "PostgreSQL schema of the tracking tables.", shown="the connection's current schema"
    )
    bind: str | None = _setting(None, "Flask-SQLAlchemy bind key of the database to migrate.", shown="default bind")
    database_url: str | None = _setting(
        None,
        "Direct URL of the database, for apps that sit behind a connection pooler.",
        shown="the app's own engine",
        secret=True,
    )
    environment: str | None = _setting(
        None,
        "Environment of this app; `--env` and then this decide before the environment variable of the same name.",
        shown="`development` in debug mode, else `production`",
    )
    environments: tuple[str, ...] = _setting((), "Further environment labels; they behave as `staging`.", shown="none")
    on_boot: OnBoot | None = _setting(
        None,
        "At start-up: `apply` (development only), `check` warns, `require` answers 503 while something is pending, "
        "`off`.",
        shown="by environment",
        choices=OnBoot,
    )
    out_of_order: Reaction | None = _setting(
        None,
        "A pending script older than an applied one: `ignore` applies it, `warn` applies it and says so, "
        "`error` stops.",
        shown="by environment",
        choices=Reaction,
    )
    edited: Reaction | None = _setting(
        None, "An applied file was edited: `ignore`, `warn` or `error`.", shown="by environment", choices=Reaction
    )
    missing: Reaction | None = _setting(
        None, "The file of an applied migration is gone: `ignore`, `warn` or `error`.", shown="by environment",
        choices=Reaction,
    )  # fmt: skip
    protect: Protection | None = _setting(
        None,
        "Rolling back more than one migration: `none`, `ask`, or `type-name` (the database's name has to be typed).",
        shown="by environment",
        choices=Protection,
    )
    lock_wait: float = _setting(60.0, "Seconds to wait while another run holds the migration lock.")
    lock_timeout: int = _setting(
        2000,
        "Milliseconds a statement waits for a lock before the migration is tried again (PostgreSQL); "
        "SQLite's busy timeout.",
    )
    statement_timeout: int = _setting(0, "Milliseconds a single statement may take (PostgreSQL); 0 is no limit.")
    retries: int = _setting(10, "How often a migration is tried again after a lock timeout or a deadlock.")
    actor: str | None = _setting(
        None, "Who is written into the history.", shown="the name of the operating system's user"
    )
    url_prefix: str = _setting("/admin/migrations", "Where the admin page lives.")
    admin: bool = _setting(True, "Whether the admin page is registered at all.")
    admin_actions: bool | None = _setting(
        None,
        "Whether the admin page may change anything; without effect while the page is read-only.",
        shown="in development only",
    )
    app: str | None = _setting(
        None,
        "The app's import string, for runs that the admin page starts; without effect while the page is read-only.",
        shown="`FLASK_APP`",
    )

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any]) -> Settings:
        """Read the `DB_MIGRATE_*` keys of a Flask config or of any mapping.

        Raises `ConfigurationError` for an unknown key (with the nearest known one) and for a value of a wrong type.
        """
        known = {PREFIX + f.name.upper(): f for f in fields(cls)}
        values: dict[str, Any] = {}
        for key in config:
            if not isinstance(key, str) or not key.startswith(PREFIX):
                continue
            if key not in known:
                raise ConfigurationError(
                    f"{key} is not a setting.", hint=_did_you_mean(key, known) or "The README lists the settings."
                )
            values[known[key].name] = _checked(key, config[key], known[key].name, known[key].metadata["choices"])
        return cls(**values)

    @property
    def journal_table(self) -> str:
        """Name of the journal's table."""
        return f"{self.table}_journal"

    @property
    def texts_table(self) -> str:
        """Name of the table that keeps each executed text once."""
        return f"{self.table}_texts"

    @property
    def known_environments(self) -> tuple[str, ...]:
        """The four built-in labels and the host's own."""
        return ENVIRONMENTS + tuple(e for e in self.environments if e not in ENVIRONMENTS)

    def resolve_environment(self, option: str | None = None, *, debug: bool = False) -> str:
        """Return the environment in force: option, config, environment variable, development in debug mode, production.

        Raises `ConfigurationError` for a label that is not known.
        """
        label = option or self.environment or os.environ.get(PREFIX + "ENVIRONMENT")
        if not label:
            return "development" if debug else "production"
        return self.checked_environment(label)

    def checked_environment(self, label: str) -> str:
        """Return `label` if it is a known environment, else raise `ConfigurationError` that lists the known ones."""
        if label not in self.known_environments:
            guess = difflib.get_close_matches(label, self.known_environments, n=1)
            raise ConfigurationError(
                f"Unknown environment {label!r}. Known are {', '.join(self.known_environments)}.",
                hint=(f"Did you mean {guess[0]!r}? " if guess else "")
                + f"Add your own labels to {PREFIX}ENVIRONMENTS.",
            )
        return label

    def policy(self, environment: str) -> Policy:
        """Return what `environment` does about irregularities: the host's settings over the environment's defaults."""
        base = _POLICIES.get(environment, _POLICIES["staging"])
        on_boot = self.on_boot or base.on_boot
        if on_boot is OnBoot.APPLY and environment != "development":
            raise ConfigurationError(
                f"{PREFIX}ON_BOOT is 'apply', which exists in development only; the environment is {environment!r}.",
                hint="Use 'check' or 'require' here, and run `flask db-migrate apply` when you deploy.",
            )
        return Policy(
            on_boot=on_boot,
            out_of_order=self.out_of_order or base.out_of_order,
            edited=self.edited or base.edited,
            missing=self.missing or base.missing,
            protect=self.protect or base.protect,
        )

    def resolve_directory(self, base: Path) -> Path:
        """Return the scripts' folder as an absolute path; a relative setting starts at `base`."""
        try:
            folder = Path(self.directory).expanduser()
        except RuntimeError as error:
            raise ConfigurationError(
                f"{PREFIX}DIRECTORY is {self.directory!r}, and there is no such home directory.",
                hint="Write the path out, or relative to the folder that holds the app.",
            ) from error
        return Path(os.path.abspath(base / folder))  # noqa: PTH100 - links stay as named

    def resolve_actor(self) -> str:
        """Return who is written into the history."""
        if self.actor:
            return self.actor
        try:
            return getpass.getuser()
        except (KeyError, OSError, ImportError):  # no entry for this user id, as in many containers
            return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


@dataclass(frozen=True, slots=True)
class SettingDoc:
    """One line of the settings table in the documentation."""

    key: str
    default: str
    doc: str


def describe_settings() -> Iterator[SettingDoc]:
    """Yield every setting with its default and meaning, in order; the README's table is made from this."""
    for f in fields(Settings):
        shown = f.metadata["shown"] or f"`{f.default}`"
        yield SettingDoc(PREFIX + f.name.upper(), shown, f.metadata["doc"])


_BOOLS = ("admin", "admin_actions")
_INTS = ("lock_timeout", "statement_timeout", "retries")
_LARGEST_INT = 2**31 - 1  # what both databases take as a number of milliseconds


def _checked(key: str, value: Any, name: str, choices: type[StrEnum] | None) -> Any:
    """Return `value` in the type that the setting has, or raise `ConfigurationError`."""
    if value is None:
        return next(f.default for f in fields(Settings) if f.name == name)
    if choices is not None:
        return _choice(key, value, choices)
    if name in _BOOLS:
        return _typed(key, value, bool, "True or False")
    if name in _INTS:
        return _in_range(key, _typed(key, value, int, "a whole number"), _LARGEST_INT)
    if name == "lock_wait":
        return _in_range(key, float(_typed(key, value, (int, float), "a number of seconds")), float("inf"))
    if name == "environments":
        return _labels(key, value)
    if name == "directory" and isinstance(value, Path):
        value = str(value)
    text = _text(key, _typed(key, value, str, "a text"))
    form = _FORMS.get(name)
    if form is not None and not form.pattern.fullmatch(text):
        raise ConfigurationError(f"{key} is {text!r}; {form.rule}.", hint=form.hint)
    return text


def _choice(key: str, value: Any, choices: type[StrEnum]) -> StrEnum:
    allowed = [c.value for c in choices]
    if value not in allowed:
        guess = difflib.get_close_matches(str(value), allowed, n=1)
        raise ConfigurationError(
            f"{key} is {value!r}; it can be {', '.join(allowed)}.",
            hint=f"Did you mean {guess[0]!r}?" if guess else None,
        )
    return choices(value)


def _typed(key: str, value: Any, kind: type | tuple[type, ...], what: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        shown = f"of type {type(value).__name__}" if key.endswith("_URL") else repr(value)  # may hold a password
        raise ConfigurationError(f"{key} is {shown}; it must be {what}.")
    return value


def _in_range(key: str, value: float, largest: float) -> float:
    if not 0 <= value <= largest:  # also for "not a number", which compares as false with everything
        raise ConfigurationError(
            f"{key} is {value}; it must be 0 or more" + (f", at most {largest}." if value > largest else ".")
        )
    return value


def _labels(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(label, str) for label in value):
        raise ConfigurationError(f"{key} is {value!r}; it must be a list of names.")
    for label in value:
        if not _LABEL.fullmatch(label):
            raise ConfigurationError(
                f"{key} holds {label!r}, which is no name for an environment.",
                hint="Use letters, digits, `-`, `_` and `.`, at most 50.",
            )
    return tuple(dict.fromkeys(value))


def _text(key: str, text: str) -> str:
    if not text:
        raise ConfigurationError(f"{key} is empty.", hint=f"Give it a value, or leave {key} out.")
    if _CONTROL.search(text):
        raise ConfigurationError(f"{key} holds a control character (a line break, for example).", hint="Take it out.")
    return text


_LABEL = re.compile(r"[\w.-]{1,50}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class _Form:
    """What a text must look like, because it goes into SQL or into a URL as it is."""

    pattern: re.Pattern[str]
    rule: str
    hint: str


_FORMS = {
    # 45 and the longest name made from it, `<table>_journal_event_idx`, fill PostgreSQL's 63 characters.
    "table": _Form(
        re.compile(r"(?!sqlite_)[a-z_][a-z0-9_]{0,44}", re.IGNORECASE | re.ASCII),
        "a table's name here is made of letters, digits and `_`, at most 45, and starts with a letter or `_`",
        "Use a name such as 'db_migrations' (not 'sqlite_…', which SQLite keeps for itself); "
        "the schema has a setting of its own, DB_MIGRATE_SCHEMA.",
    ),
    "schema": _Form(
        re.compile(r"[^\"'%]{1,63}"),
        "a schema's name here has no quotes and no percent sign, and at most 63 characters",
        "Write the plain name, without quotes around it.",
    ),
    "url_prefix": _Form(
        re.compile(r"/[^\s<>?#]*"),
        "it must be the start of a path",
        "Begin it with `/` and leave out spaces, `<`, `>`, `?` and `#`: '/admin/migrations'.",
    ),
    "actor": _Form(
        re.compile(r".{1,255}"),
        "the history keeps at most 255 characters",
        "Use a shorter name.",
    ),
}


def _did_you_mean(key: str, known: Mapping[str, Any]) -> str | None:
    guess = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"Did you mean {guess[0]}?" if guess else None
