"""The nouns of the tool: frozen facts about files, rows, plans and results, without any input or output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path


class Direction(StrEnum):
    """Which part of a script runs."""

    APPLY = "apply"
    ROLLBACK = "rollback"


class Kind(StrEnum):
    """How a migration is written."""

    PYTHON = "python"
    SQL = "sql"


class State(StrEnum):
    """What the database knows about a migration."""

    APPLIED = "applied"
    PENDING = "pending"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


class Outcome(StrEnum):
    """How a step ended, or would end."""

    APPLIED = "applied"
    ROLLED_BACK = "rolled_back"
    WOULD_APPLY = "would_apply"
    WOULD_ROLLBACK = "would_rollback"
    FAILED = "failed"


class Level(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Source(StrEnum):
    """The door through which a run came in."""

    CLI = "cli"
    WEB = "web"
    BOOT = "boot"
    API = "api"


class Reaction(StrEnum):
    """What a policy says to do about an irregularity."""

    IGNORE = "ignore"
    WARN = "warn"
    ERROR = "error"


class OnBoot(StrEnum):
    """What happens when the app starts serving."""

    OFF = "off"
    APPLY = "apply"
    CHECK = "check"
    REQUIRE = "require"


class Protection(StrEnum):
    """How a rollback of more than one migration has to be confirmed."""

    NONE = "none"
    ASK = "ask"
    TYPE_NAME = "type-name"


LONGEST_VERSION = 50
"""Characters that the tracking table keeps of a version."""


def version_number(version: str) -> int | None:
    """Return a version as the number that orders it; None where somebody wrote something else."""
    if version.isascii() and version.isdigit() and len(version) <= LONGEST_VERSION:
        return int(version)
    return None


@dataclass(frozen=True, slots=True)
class Header:
    """What a script's text declares, read without running it."""

    checksum: str
    """SHA-256 (hex) of the apply part; of the whole file for Python."""
    rollback_checksum: str | None
    """SHA-256 (hex) of the rollback part where it is a text of its own, else None."""
    reversible: bool
    """Whether there is a rollback part."""
    environments: frozenset[str] | None = None
    """Labels this migration is for; None means all."""
    transactional: bool = True
    """Whether the apply part runs in a transaction."""
    rollback_transactional: bool = True
    """Whether the rollback part does; SQL declares each part for itself."""
    description: str = ""
    """First paragraph of the docstring or of the leading comment, on one line."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration as its file name tells it; `header` is there once the file was read."""

    version: str
    """Digits as written, shown and stored."""
    number: int
    """The version as a number: the order, and the identity."""
    name: str
    kind: Kind
    apply_path: Path
    rollback_path: Path | None = None
    """The file of the rollback part where it is not the apply part's file, else None."""
    header: Header | None = None

    @property
    def label(self) -> str:
        """Version and name, as people say it: `003_calculations`."""
        return f"{self.version}_{self.name}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the directory that looks like a script and cannot be one, with the cure."""

    paths: tuple[Path, ...]
    message: str
    hint: str
    line: int | None = None
    number: int | None = None
    """The migration concerned, where the name gives one."""
    blocking: bool = True
    """Whether commands that run something must stop (a clash, a bad header), or only mention it."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One scan of the scripts' folder: what can run, in order, and what cannot."""

    path: Path
    migrations: tuple[Migration, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A row of the tracking table."""

    id: int
    version: str
    number: int | None
    """None where the version of a row written by someone else is no number."""
    name: str
    status: str
    applied_at: datetime | None
    """UTC, aware, from the database's clock."""
    checksum: str | None = None
    environment: str | None = None
    duration_ms: int | None = None
    applied_by: str | None = None

    @property
    def is_applied(self) -> bool:
        """A row with status `applied` means applied; nothing else does."""
        return self.status == "applied"

    @property
    def is_running(self) -> bool:
        """The row of a non-transactional migration that is under way, or was when its process died."""
        return self.status == "running"


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One migration as file and database know it together."""

    version: str
    name: str
    state: State
    migration: Migration | None
    """None where the file is gone."""
    applied: AppliedMigration | None
    edited: bool = False
    out_of_order: bool = False
    last_error: str | None = None

    @property
    def missing(self) -> bool:
        """Whether a row is there and its file is not."""
        return self.migration is None

    @property
    def reversible(self) -> bool | None:
        """Whether there is a rollback part; None where that is not known (file gone or not read)."""
        if self.migration is None or self.migration.header is None:
            return None
        return self.migration.header.reversible


@dataclass(frozen=True, slots=True)
class Step:
    """One script that runs, in one direction."""

    direction: Direction
    migration: Migration
    applied: AppliedMigration | None = None
    """The row that is there before: of a rollback its own, of an apply a stale one (status not `applied`)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will run, in order. What is shown is what runs: there is no second plan."""

    direction: Direction
    steps: tuple[Step, ...]
    environment: str
    warnings: tuple[str, ...] = ()
    skipped: tuple[Migration, ...] = ()
    """Pending, but not for this environment."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step of a plan ended, or would end in a dry run."""

    version: str
    name: str
    outcome: Outcome
    applied_at: datetime | None = None
    duration_ms: int | None = None
    script: Path | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation about a script, with the cure."""

    rule: str
    level: Level
    message: str
    hint: str
    version: str | None = None
    file: Path | None = None
    line: int | None = None
    statement: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed step, told so that nobody has to look anywhere else. Every door renders this same object."""

    version: str
    name: str
    direction: Direction
    message: str
    """What the server or Python said, first line without a stack."""
    file: Path | None = None
    line: int | None = None
    """Line in `file`, 1-based."""
    column: int | None = None
    """Column in `source_line`, 1-based; only where the server gave a position."""
    source_line: str | None = None
    """The line of the statement that `line` and `column` point at."""
    statement: str | None = None
    statement_number: int | None = None
    """Which statement of the script, 1-based."""
    statement_count: int | None = None
    detail: str | None = None
    server_hint: str | None = None
    database_state: str = ""
    """What state the database is in, one or two sentences."""
    next_steps: tuple[str, ...] = ()
    """What to do now, in order."""
    completed: tuple[StepResult, ...] = ()
    """What this run did before."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The last run as the journal tells it."""

    run_id: str
    direction: Direction
    outcome: str
    """`succeeded`, `failed`, `cancelled`, `running` or `interrupted`."""
    started_at: datetime
    finished_at: datetime | None
    actor: str
    source: str
    host: str
    pid: int
    steps_done: int = 0
    error: str | None = None
    failed_version: str | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a past run, as the journal tells it."""

    version: str
    name: str | None
    outcome: str
    at: datetime | None
    duration_ms: int | None = None
    statement: int | None = None
    """Which statement failed, 1-based."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One attempt to change something: a run with its steps, or a word about the database."""

    run_id: str
    what: str
    """`apply`, `rollback`, `init`, `record` or `remove`."""
    outcome: str
    """`succeeded`, `failed`, `cancelled`, `running` or `interrupted`."""
    started_at: datetime | None
    finished_at: datetime | None
    actor: str
    source: str
    host: str
    pid: int
    environment: str
    git_commit: str | None = None
    steps: tuple[StepRecord, ...] = ()
    error: str | None = None
    reason: str | None = None


class Verdict(StrEnum):
    """The state of a database in one word."""

    UP_TO_DATE = "up-to-date"
    PENDING = "pending"
    RUNNING = "running"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DISAGREE = "disagree"
    NOT_SET_UP = "not-set-up"
    NO_MIGRATIONS = "no-migrations"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds the migration lock."""

    pid: int | None
    host: str | None
    since: datetime | None
    actor: str | None = None
    query: str | None = None

    def __str__(self) -> str:
        where = f" on {self.host}" if self.host else ""
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        who = f" ({self.actor})" if self.actor else ""
        return f"process {self.pid if self.pid is not None else '?'}{where}{who}{since}"


@dataclass(frozen=True, slots=True)
class Overview:
    """What `status`, the admin's first page and the health probe show: made once, rendered by every door."""

    verdict: Verdict
    sentence: str
    """The verdict as a sentence."""
    next_command: str | None
    """What to run next, as it would be typed; None where nothing has to be done."""
    environment: str
    remembered_environment: str | None
    """The environment that the database was set up for; None before the first apply."""
    database: str
    """The database's URL without user name, password or query."""
    directory: Path
    rows: tuple[MigrationStatus, ...] = ()
    """In order of number; rows without a number come first."""
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    last_run: RunSummary | None = None
    lock_holder: LockHolder | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many rows are `applied`, `pending`, `skipped`, `interrupted`, `edited`, `missing`, `out_of_order`."""
