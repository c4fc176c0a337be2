"""Planning: tables of files, rows, target and policy against the plan or the refusal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cryoprotect.migrations_ext.errors import (
    ConfigurationError,
    EditedMigrationError,
    HistoryError,
    InterruptedMigrationError,
    InvalidDirectoryError,
    IrreversibleMigrationError,
    MissingMigrationError,
    OutOfOrderError,
    UnknownTargetError,
)
from cryoprotect.migrations_ext.model import (
    AppliedMigration,
    Direction,
    Directory,
    Header,
    Kind,
    Migration,
    MigrationStatus,
    Plan,
    Problem,
    State,
    version_number,
)
from cryoprotect.migrations_ext.planning import (
    Target,
    is_up_to_date,
    nearest,
    plan_apply,
    plan_rollback,
    refuse_problems,
    statuses,
)
from cryoprotect.migrations_ext.settings import Policy, Settings

AT = datetime(2025, 11, 3, 12, 0, tzinfo=UTC)
FOLDER = Path("/srv/app/migration_scripts")


def file(
    version: str,
    *,
    checksum: str = "same",
    reversible: bool = True,
    environments: Sequence[str] | None = None,
) -> Migration:
    """The file of a migration, `name` being n followed by its number, with its header read."""
    labels = frozenset(environments) if environments is not None else None
    return Migration(
        version=version,
        number=int(version),
        name=f"n{int(version)}",
        kind=Kind.SQL,
        apply_path=FOLDER / f"{version}_n{int(version)}.sql",
        header=Header(checksum, None, reversible=reversible, environments=labels),
    )


def row(version: str, status: str = "applied", *, checksum: str | None = "same") -> AppliedMigration:
    """A row of the tracking table; its id is nothing that planning looks at."""
    return AppliedMigration(
        id=1,
        version=version,
        number=version_number(version),
        name=f"n{version.lstrip('0')}",
        status=status,
        applied_at=AT,
        checksum=checksum,
    )


def folder(*files: Migration | str, problems: Sequence[Problem] = ()) -> Directory:
    migrations = tuple(f if isinstance(f, Migration) else file(f) for f in files)
    return Directory(FOLDER, migrations, tuple(problems))


def rows(*versions: str) -> list[AppliedMigration]:
    return [row(v) for v in versions]


def policy(environment: str = "development", **changes: str) -> Policy:
    return Settings.from_mapping({f"DB_MIGRATE_{k.upper()}": v for k, v in changes.items()}).policy(environment)


def apply(
    directory: Directory,
    history: Sequence[AppliedMigration] = (),
    *,
    environment: str = "development",
    target: str | None = None,
    steps: int | None = None,
    **changes: str,
) -> Plan:
    return plan_apply(directory, history, environment, policy(environment, **changes), Target(target, steps))


def rollback(
    directory: Directory,
    history: Sequence[AppliedMigration] = (),
    *,
    environment: str = "development",
    target: str | None = None,
    steps: int | None = None,
    **changes: str,
) -> Plan:
    return plan_rollback(directory, history, environment, policy(environment, **changes), Target(target, steps))


def versions(plan: Plan) -> list[str]:
    return [step.migration.version for step in plan.steps]


def words(error: HistoryError | ConfigurationError | Any) -> str:
    """Everything that a person reads."""
    return f"{error.value.message} {error.value.hint}"


class TestTarget:
    def test_a_version_and_a_number_of_steps_exclude_each_other(self) -> None:
        with pytest.raises(ConfigurationError, match="exclude each other"):
            Target("3", 1)

    @pytest.mark.parametrize("steps", [0, -1])
    def test_steps_are_one_or_more(self, steps: int) -> None:
        with pytest.raises(ConfigurationError, match="not a number of steps"):
            Target(steps=steps)


class TestUpToDate:
    """Names alone decide whether there is anything to do."""

    @pytest.mark.parametrize(
        ("files", "history", "expected"),
        [
            ([], [], True),
            (["001"], [], False),
            (["001"], [row("001")], True),
            (["001"], [row("1")], True),
            (["001", "002"], [row("001")], False),
            (["001"], [row("001"), row("002")], True),
            (["001"], [row("001", "rolled_back")], False),
            (["001"], [row("001"), row("002", "running")], False),
            (["001"], [row("001"), row("abc")], True),
        ],
    )
    def test_names(self, files: list[str], history: list[AppliedMigration], expected: bool) -> None:
        assert is_up_to_date(folder(*files), history) is expected


class TestStatuses:
    def found(
        self, directory: Directory, history: Sequence[AppliedMigration], environment: str = "development", **more: Any
    ) -> list[MigrationStatus]:
        return statuses(directory, history, environment, **more)

    def one(self, directory: Directory, history: Sequence[AppliedMigration], environment: str = "development") -> Any:
        (status,) = self.found(directory, history, environment)
        return status

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (None, State.PENDING),
            ("applied", State.APPLIED),
            ("running", State.INTERRUPTED),
            ("rolled_back", State.PENDING),
            ("failed", State.PENDING),
            ("", State.PENDING),
            ("APPLIED", State.PENDING),
        ],
    )
    def test_a_row_with_status_applied_means_applied_and_nothing_else_does(
        self, status: str | None, expected: State
    ) -> None:
        history = [] if status is None else [row("001", status)]
        assert self.one(folder("001"), history).state is expected

    @pytest.mark.parametrize(
        ("environments", "status", "expected"),
        [
            (None, None, State.PENDING),
            (["development"], None, State.PENDING),
            (["staging", "development"], None, State.PENDING),
            (["staging"], None, State.SKIPPED),
            ([], None, State.SKIPPED),
            (["staging"], "applied", State.APPLIED),
            (["staging"], "rolled_back", State.SKIPPED),
            (["staging"], "running", State.INTERRUPTED),
        ],
    )
    def test_what_is_not_for_this_environment_is_skipped_unless_it_is_there_already(
        self, environments: list[str] | None, status: str | None, expected: State
    ) -> None:
        history = [] if status is None else [row("001", status)]
        assert self.one(folder(file("001", environments=environments)), history).state is expected

    @pytest.mark.parametrize(
        ("status", "recorded", "edited"),
        [
            ("applied", "same", False),
            ("applied", "other", True),
            ("applied", None, False),  # a row of a taken-over table
            ("applied", "", False),
            ("rolled_back", "other", False),
            ("running", "other", False),
        ],
    )
    def test_edited(self, status: str, recorded: str | None, edited: bool) -> None:
        assert self.one(folder("001"), [row("001", status, checksum=recorded)]).edited is edited

    def test_a_file_that_was_not_read_is_not_called_edited(self) -> None:
        unread = Migration("001", 1, "n1", Kind.SQL, FOLDER / "001_n1.sql")
        status = self.one(folder(unread), [row("001", checksum="other")])
        assert status.edited is False
        assert status.reversible is None

    def test_order_is_by_number_and_rows_without_one_come_first(self) -> None:
        found = self.found(folder("10", "9", "002"), [row("abc"), row("011"), row("1")])
        assert [s.version for s in found] == ["abc", "1", "002", "9", "10", "011"]

    def test_rows_without_a_number_keep_their_state(self) -> None:
        found = self.found(folder(), [row("abc"), row("x", "failed"), row("y", "running")])
        assert [s.state for s in found] == [State.APPLIED, State.PENDING, State.INTERRUPTED]
        assert all(s.missing for s in found)

    def test_versions_compare_as_numbers(self) -> None:
        status = self.one(folder("001"), [row("1")])
        assert status.state is State.APPLIED
        assert status.version == "001"

    def test_a_row_whose_file_is_gone_is_missing(self) -> None:
        status = self.one(folder(), [row("001")])
        assert (status.state, status.missing, status.reversible) == (State.APPLIED, True, None)

    @pytest.mark.parametrize(
        ("history", "late"),
        [
            ([], []),
            (rows("001"), []),
            (rows("003"), ["001", "002"]),
            (rows("002"), ["001"]),
            ([row("003", "rolled_back")], []),
            (rows("004"), ["001", "002", "003"]),  # the file of the newest may be gone
            (rows("abc"), []),
        ],
    )
    def test_out_of_order_is_what_is_older_than_the_newest_applied(
        self, history: list[AppliedMigration], late: list[str]
    ) -> None:
        found = self.found(folder("001", "002", "003"), history)
        assert [s.version for s in found if s.out_of_order] == late

    def test_a_stale_row_without_a_file_is_not_out_of_order(self) -> None:
        stale, _ = self.found(folder("002"), [row("001", "rolled_back"), row("002")])
        assert stale.out_of_order is False

    @pytest.mark.parametrize(
        ("history", "state"),
        [
            ([row("001"), row("1", "rolled_back")], State.APPLIED),
            ([row("1", "rolled_back"), row("001")], State.APPLIED),
            ([row("1"), row("001", "running")], State.INTERRUPTED),
            ([row("001", "running"), row("1")], State.INTERRUPTED),
        ],
    )
    def test_two_rows_of_one_number_count_as_the_one_that_says_most(
        self, history: list[AppliedMigration], state: State
    ) -> None:
        assert self.one(folder("001"), history).state is state

    def test_the_last_error_stays_until_the_migration_is_applied(self) -> None:
        errors = {"001": "old trouble", "002": "relation exists"}
        first, second = self.found(folder("001", "002"), rows("001"), last_errors=errors)
        assert first.last_error is None
        assert second.last_error == "relation exists"


class TestPlanApply:
    @pytest.mark.parametrize(
        ("files", "history", "target", "steps", "expected"),
        [
            ([], [], None, None, []),
            (["001", "002"], [], None, None, ["001", "002"]),
            (["10", "9", "2"], [], None, None, ["2", "9", "10"]),
            (["001", "002"], ["001"], None, None, ["002"]),
            (["001", "002"], ["1", "2"], None, None, []),
            (["001", "002", "003"], [], "2", None, ["001", "002"]),
            (["001", "002", "003"], [], "002", None, ["001", "002"]),
            (["001", "002", "003"], [], " 2 ", None, ["001", "002"]),
            (["001", "002", "003"], [], "0", None, []),
            (["000", "001"], [], "0", None, ["000"]),
            (["001", "002", "003"], ["001", "002"], "1", None, []),
            (["002", "003"], ["001"], "1", None, []),  # known from the history alone
            (["001", "002", "003"], [], None, 2, ["001", "002"]),
            (["001", "002", "003"], ["001"], None, 1, ["002"]),
            (["001", "002"], [], None, 9, ["001", "002"]),
        ],
    )
    def test_what_runs(
        self, files: list[str], history: list[str], target: str | None, steps: int | None, expected: list[str]
    ) -> None:
        plan = apply(folder(*files), rows(*history), target=target, steps=steps)
        assert versions(plan) == expected
        assert plan.direction is Direction.APPLY
        assert plan.environment == "development"
        assert {step.direction for step in plan.steps} <= {Direction.APPLY}

    def test_what_is_for_another_environment_is_left_out_and_said(self) -> None:
        plan = apply(folder("001", file("002", environments=["production"]), "003"))
        assert versions(plan) == ["001", "003"]
        assert [m.version for m in plan.skipped] == ["002"]
        assert versions(apply(folder(file("002", environments=["production"])), environment="production")) == ["002"]

    def test_a_stale_row_is_handed_on_so_that_it_gives_way(self) -> None:
        stale = row("1", "rolled_back")
        (step,) = apply(folder("001"), [stale]).steps
        assert step.applied is stale

    def test_of_two_stale_rows_the_one_in_the_way_gives_way(self) -> None:
        in_the_way = row("001", "failed")
        for history in ([in_the_way, row("1", "failed")], [row("1", "failed"), in_the_way]):
            (step,) = apply(folder("001"), history).steps
            assert step.applied is in_the_way

    def test_a_stale_row_without_a_file_takes_no_step(self) -> None:
        plan = apply(folder("002", "003"), [row("001", "rolled_back")], steps=1)
        assert versions(plan) == ["002"]

    def test_rows_without_a_number_are_in_nobodys_way(self) -> None:
        plan = apply(folder("001"), rows("abc"), missing="ignore")
        assert versions(plan) == ["001"]

    @pytest.mark.parametrize(
        ("target", "near"),
        [
            ("7", "003"),
            ("99999", "020"),
            ("15", "020"),
            ("calculations", "020"),
            ("02O", "020"),
            ("-1", "001"),
            ("٣", "020"),
            ("9" * 5000, "020"),
        ],
    )
    def test_an_unknown_target_names_the_nearest(self, target: str, near: str) -> None:
        with pytest.raises(UnknownTargetError) as error:
            apply(folder("001", "003", "020"), target=target)
        assert len(error.value.message) < 200
        assert f"nearest is {near};" in words(error)
        assert error.value.exit_code == 2

    def test_an_unknown_target_where_there_is_nothing_at_all(self) -> None:
        with pytest.raises(UnknownTargetError) as error:
            apply(folder(), target="3")
        assert "flask db-migrate new" in words(error)

    @pytest.mark.parametrize("target", [None, "1"])
    def test_what_was_interrupted_stops_everything(self, target: str | None) -> None:
        history = [row("001"), row("002", "running")]
        for plan in (apply, rollback):
            with pytest.raises(InterruptedMigrationError) as error:
                plan(folder("001", "002", "003"), history, target=target)
            assert error.value.version == "002"
            assert error.value.file == FOLDER / "002_n2.sql"
            assert "002_n2" in words(error)

    def test_an_interrupted_one_whose_file_is_gone_stops_everything_too(self) -> None:
        with pytest.raises(InterruptedMigrationError):
            apply(folder("003"), [row("002", "running")])

    # The policy's columns: what each environment does by default, and what the setting makes of it.
    POLICY = (
        ("development", None, "warn"),
        ("testing", None, "ignore or error"),
        ("staging", None, "error"),
        ("production", None, "error"),
        ("production", "warn", "warn"),
        ("production", "ignore", "ignore"),
        ("development", "error", "error"),
    )

    @pytest.mark.parametrize(("environment", "setting", "expected"), POLICY)
    def test_an_older_script(self, environment: str, setting: str | None, expected: str) -> None:
        changes = {"out_of_order": setting} if setting else {}
        if expected == "error":
            with pytest.raises(OutOfOrderError) as error:
                apply(folder("001", "002", "003"), rows("002"), environment=environment, **changes)
            assert error.value.version == "001"
            assert error.value.file == FOLDER / "001_n1.sql"
            assert error.value.exit_code == 5
            assert "DB_MIGRATE_OUT_OF_ORDER" in words(error)
            return
        plan = apply(folder("001", "002", "003"), rows("002"), environment=environment, **changes)
        assert versions(plan) == ["001", "003"]
        assert [("001_n1" in w) for w in plan.warnings] == ([True] if expected == "warn" else [])

    @pytest.mark.parametrize(("environment", "setting", "expected"), POLICY)
    def test_an_edited_file(self, environment: str, setting: str | None, expected: str) -> None:
        directory, history = folder(file("001", checksum="new"), "002"), rows("001")
        changes = {"edited": setting} if setting else {}
        if "error" in expected:
            with pytest.raises(EditedMigrationError) as error:
                apply(directory, history, environment=environment, **changes)
            assert error.value.version == "001"
            assert error.value.exit_code == 5
            assert "flask db-migrate new" in words(error)
            return
        plan = apply(directory, history, environment=environment, **changes)
        assert versions(plan) == ["002"]
        assert [("001_n1 was edited" in w) for w in plan.warnings] == ([True] if expected == "warn" else [])

    @pytest.mark.parametrize(("environment", "setting", "expected"), POLICY)
    def test_a_file_that_is_gone(self, environment: str, setting: str | None, expected: str) -> None:
        changes = {"missing": setting} if setting else {}
        if "error" in expected:
            with pytest.raises(MissingMigrationError) as error:
                apply(folder("002"), rows("001"), environment=environment, **changes)
            assert error.value.version == "001"
            assert "001_n1" in words(error)
            return
        plan = apply(folder("002"), rows("001"), environment=environment, **changes)
        assert versions(plan) == ["002"]
        assert [("file is gone" in w) for w in plan.warnings] == ([True] if expected == "warn" else [])

    def test_with_nothing_to_do_files_are_not_judged(self) -> None:
        directory = folder(file("001", checksum="new"))
        assert apply(directory, rows("001", "002"), environment="production").steps == ()

    def test_an_older_script_beyond_the_target_is_not_judged(self) -> None:
        plan = apply(folder("001", "002", "003"), rows("001", "003"), environment="production", target="1")
        assert plan.steps == ()

    def test_many_names_are_cut_to_three(self) -> None:
        history = rows("001", "002", "003", "004", "005")
        (warning,) = apply(folder("006"), history).warnings
        assert warning.startswith("001_n1, 002_n2, 003_n3 and 2 more are applied here")

    def test_taken_over_rows_have_no_checksum_to_disagree_with(self) -> None:
        plan = apply(folder("001", "002"), [row("001", checksum=None)], environment="production")
        assert versions(plan) == ["002"]
        assert plan.warnings == ()


class TestPlanRollback:
    @pytest.mark.parametrize(
        ("files", "history", "target", "steps", "expected"),
        [
            ([], [], None, None, []),
            (["001", "002"], [], None, None, []),
            (["001", "002"], ["001", "002"], None, None, ["002", "001"]),
            (["2", "9", "10"], ["10", "2", "9"], None, None, ["10", "9", "2"]),
            (["001", "002", "003"], ["001", "002", "003"], "1", None, ["003", "002"]),
            (["001", "002", "003"], ["001", "002", "003"], "002", None, ["003"]),
            (["001", "002", "003"], ["001", "002", "003"], "3", None, []),
            (["001", "002", "003"], ["001", "002", "003"], "0", None, ["003", "002", "001"]),
            (["001", "002", "003"], ["001", "003"], "1", None, ["003"]),
            (["001", "002", "003"], ["001", "003"], "2", None, ["003"]),
            (["001", "002", "003"], ["001", "002", "003"], None, 1, ["003"]),
            (["001", "002", "003"], ["001", "002", "003"], None, 2, ["003", "002"]),
            (["001"], ["001"], None, 9, ["001"]),
            (["000", "001"], ["000", "001"], "0", None, ["001"]),  # a migration of that number is kept, as any target
        ],
    )
    def test_what_runs(
        self, files: list[str], history: list[str], target: str | None, steps: int | None, expected: list[str]
    ) -> None:
        plan = rollback(folder(*files), rows(*history), target=target, steps=steps)
        assert versions(plan) == expected
        assert plan.direction is Direction.ROLLBACK
        assert {step.direction for step in plan.steps} <= {Direction.ROLLBACK}

    def test_each_step_carries_the_row_that_it_removes(self) -> None:
        history = rows("1")
        (step,) = rollback(folder("001"), history).steps
        assert step.applied is history[0]

    def test_rows_that_are_not_applied_are_not_rolled_back(self) -> None:
        history = [row("001"), row("002", "rolled_back")]
        assert versions(rollback(folder("001", "002"), history)) == ["001"]

    def test_the_environment_does_not_matter_for_what_is_there(self) -> None:
        assert versions(rollback(folder(file("001", environments=["production"])), rows("001"))) == ["001"]

    def test_an_irreversible_one_refuses_the_whole_rollback_before_anything_runs(self) -> None:
        directory = folder("001", file("002", reversible=False), "003")
        for target in (None, "0", "1"):
            with pytest.raises(IrreversibleMigrationError) as error:
                rollback(directory, rows("001", "002", "003"), target=target)
            assert error.value.version == "002"
            assert error.value.file == FOLDER / "002_n2.sql"
            assert "flask db-migrate rollback --target 002" in words(error)

    def test_the_way_out_that_is_named_works(self) -> None:
        directory = folder("001", file("002", reversible=False), "003")
        assert versions(rollback(directory, rows("001", "002", "003"), target="002")) == ["003"]

    def test_an_irreversible_one_out_of_reach_stops_nothing(self) -> None:
        directory = folder(file("001", reversible=False), "002")
        assert versions(rollback(directory, rows("001", "002"), steps=1)) == ["002"]

    def test_an_irreversible_newest_one(self) -> None:
        with pytest.raises(IrreversibleMigrationError, match="no rollback part") as error:
            rollback(folder("001", file("002", reversible=False)), rows("001", "002"))
        assert "It is the newest" in words(error)
        assert "--target" not in words(error)

    def test_without_its_file_nothing_can_be_rolled_back(self) -> None:
        with pytest.raises(MissingMigrationError, match="its file is gone") as error:
            rollback(folder("001", "003"), rows("001", "002", "003"))
        assert error.value.version == "002"
        assert "flask db-migrate rollback --target 002" in words(error)

    def test_a_missing_file_below_the_target_is_the_policys_business(self) -> None:
        plan = rollback(folder("002"), rows("001", "002"), target="1")
        assert versions(plan) == ["002"]
        assert "file is gone" in plan.warnings[0]
        with pytest.raises(MissingMigrationError):
            rollback(folder("002"), rows("001", "002"), target="1", environment="production")

    def test_a_row_without_a_number_stands_before_everything(self) -> None:
        history = rows("abc", "001")
        assert versions(rollback(folder("001"), history, target="0")) == ["001"]
        assert versions(rollback(folder("001"), history, steps=1)) == ["001"]
        with pytest.raises(MissingMigrationError) as error:
            rollback(folder("001"), history)
        assert "flask db-migrate rollback --target 0" in words(error)

    def test_an_edited_file_is_the_policys_business(self) -> None:
        directory = folder(file("001", checksum="new"))
        assert "was edited" in rollback(directory, rows("001")).warnings[0]
        with pytest.raises(EditedMigrationError):
            rollback(directory, rows("001"), environment="staging")

    def test_an_unknown_target_names_the_nearest(self) -> None:
        with pytest.raises(UnknownTargetError) as error:
            rollback(folder("001", "002"), rows("001", "002"), target="4")
        assert "nearest is 002;" in words(error)

    def test_with_nothing_to_do_files_are_not_judged(self) -> None:
        assert rollback(folder("001"), rows("001", "002"), environment="production", target="2").steps == ()


class TestProblems:
    CLASH = Problem((FOLDER / "1_a.sql", FOLDER / "001_b.sql"), "Two files are number 1.", "Renumber one.", number=1)
    STRAY = Problem((FOLDER / "notes.sql",), "notes.sql has no number.", "Rename it.", blocking=False)

    @pytest.mark.parametrize("plan", [apply, rollback])
    def test_a_blocking_one_stops_every_plan(self, plan: Any) -> None:
        with pytest.raises(InvalidDirectoryError) as error:
            plan(folder("002", problems=[self.STRAY, self.CLASH]), rows("002"))
        assert error.value.message == "Two files are number 1."
        assert error.value.hint == "Renumber one."
        assert error.value.problems == (self.CLASH,)
        assert error.value.exit_code == 5

    def test_how_many_more_there_are_is_said(self) -> None:
        with pytest.raises(InvalidDirectoryError, match=r"\(1 more of the kind\.\)"):
            refuse_problems(folder(problems=[self.CLASH, self.CLASH]))

    def test_others_stop_nothing(self) -> None:
        assert versions(apply(folder("001", problems=[self.STRAY]))) == ["001"]


class TestNearest:
    @pytest.mark.parametrize(
        ("version", "known", "expected"),
        [
            ("5", [], None),
            ("5", ["001", "004", "009"], "004"),
            ("0", ["001", "004"], "001"),
            ("initial", ["001", "init"], "init"),
            ("5", ["abc"], "abc"),
            ("zzz", ["001", "002"], "002"),
            ("²", ["001"], "001"),
            ("5", ["²", "004"], "004"),
        ],
    )
    def test_table(self, version: str, known: list[str], expected: str | None) -> None:
        assert nearest(version, known) == expected
