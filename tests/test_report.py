"""Every door tells the same: documents of JSON's own types, and plain lines that read well at 80 columns."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cryoprotect.migrations_ext.errors import (
    ConfigurationError,
    InvalidDirectoryError,
    LockBusyError,
    MigrationError,
    MigrationFailed,
)
from cryoprotect.migrations_ext.model import (
    AppliedMigration,
    Direction,
    Failure,
    Header,
    Kind,
    Migration,
    MigrationStatus,
    Outcome,
    Overview,
    Problem,
    State,
    StepResult,
    Verdict,
)
from cryoprotect.migrations_ext.report import (
    WIDTH,
    error_document,
    error_lines,
    failure_lines,
    printable,
    results_document,
    status_document,
    wrapped,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def migration(version: str, name: str = "thing") -> Migration:
    path = Path("/srv/app/migration_scripts") / f"{version}_{name}.sql"
    return Migration(version, int(version), name, Kind.SQL, path, header=Header("c" * 64, None, reversible=True))


def row(version: str, at: datetime | None = NOON) -> AppliedMigration:
    return AppliedMigration(1, version, int(version), "thing", "applied", at, "c" * 64, "development", 12, "bob")


def status(version: str, state: State = State.APPLIED, **flags: object) -> MigrationStatus:
    applied = row(version) if state is State.APPLIED else None
    return MigrationStatus(version, "thing", state, migration(version), applied, **flags)  # type: ignore[arg-type]


def overview(*rows: MigrationStatus) -> Overview:
    return Overview(Verdict.PENDING, "So.", None, "development", None, "sqlite:///x", Path("/srv"), rows=rows)


def failure(**changes: object) -> Failure:
    facts: dict[str, object] = {
        "version": "002",
        "name": "index",
        "direction": Direction.APPLY,
        "message": 'column "nmae" does not exist',
        "file": Path("/srv/app/migration_scripts/002_index.sql"),
        "line": 7,
        "column": 25,
        "source_line": "create index on molecules (nmae);"[:33],
        "statement": "create index on molecules (nmae)",
        "statement_number": 3,
        "statement_count": 5,
        "server_hint": 'Perhaps you meant to reference the column "molecules.name".',
        "database_state": "001 was applied before and stays so. 002_index was rolled back. Nothing is half done.",
        "next_steps": ("Mend 002_index.sql.", "Run `flask db-migrate apply` again."),
        "completed": (StepResult("001", "first", Outcome.APPLIED, NOON, 5),),
    }
    return Failure(**{**facts, **changes})  # type: ignore[arg-type]


class TestStatusDocument:
    def test_has_the_contract_s_keys_and_plain_values(self) -> None:
        document = status_document(overview(status("001", edited=True), status("002", State.PENDING)))
        assert document["001"] == {
            "version": "001",
            "name": "thing",
            "script": "/srv/app/migration_scripts/001_thing.sql",
            "status": "applied",
            "applied_at": "2026-03-01T12:00:00+00:00",
            "edited": True,
            "missing": False,
            "out_of_order": False,
            "reversible": True,
            "last_error": None,
            "environment": "development",
            "duration_ms": 12,
            "applied_by": "bob",
            "checksum": "c" * 64,
            "description": "",
        }
        assert document["002"]["status"] == "pending"
        assert document["002"]["applied_at"] is None
        assert json.loads(json.dumps(document)) == document

    def test_keeps_the_order_of_numbers(self) -> None:
        rows = [status(version) for version in ("2", "9", "10", "011")]
        assert list(json.loads(json.dumps(status_document(overview(*rows))))) == ["2", "9", "10", "011"]

    def test_a_missing_file_has_no_script(self) -> None:
        gone = MigrationStatus("003", "gone", State.APPLIED, None, row("003"))
        entry = status_document(overview(gone))["003"]
        assert (entry["script"], entry["missing"], entry["reversible"]) == (None, True, None)

    def test_two_files_of_one_version_are_both_there(self) -> None:
        assert len(status_document(overview(status("001"), status("001", State.PENDING)))) == 2

    def test_masks_secrets_of_stored_errors(self) -> None:
        bad = status("001", State.PENDING, last_error="postgresql://bob:s3cr3t@h/d is wrong")
        assert "s3cr3t" not in json.dumps(status_document(overview(bad)))


class TestResultsDocument:
    def test_is_a_list_with_the_contract_s_keys(self) -> None:
        results = [
            StepResult("001", "a", Outcome.APPLIED, NOON, 12),
            StepResult("002", "b", Outcome.ROLLED_BACK),
            StepResult("003", "c", Outcome.WOULD_APPLY, script=Path("/x/003_c.sql")),
            StepResult("004", "d", Outcome.WOULD_ROLLBACK),
        ]
        document = results_document(results)
        assert [entry["status"] for entry in document] == ["applied", "rolled_back", "would_apply", "would_rollback"]
        assert document[0]["applied_at"] == "2026-03-01T12:00:00+00:00"
        assert document[0]["duration_ms"] == 12
        assert document[1]["applied_at"] is None
        assert document[2]["script"] == "/x/003_c.sql"

    def test_times_are_given_in_utc(self) -> None:
        at = NOON.astimezone(timezone(timedelta(hours=5)))
        assert results_document([StepResult("1", "a", Outcome.APPLIED, at)])[0]["applied_at"].endswith("12:00:00+00:00")

    def test_takes_texts_along(self) -> None:
        document = results_document([StepResult("001", "a", Outcome.WOULD_APPLY)], {"001": "select 1"})
        assert document[0]["text"] == "select 1"


class TestErrorDocument:
    def test_of_a_failed_migration(self) -> None:
        document = error_document(MigrationFailed(failure()))
        assert document["error"]["type"] == "MigrationFailed"
        assert document["error"]["hint"] == "Mend 002_index.sql."
        assert [entry["version"] for entry in document["completed"]] == ["001"]
        failed = document["failed"]
        assert (failed["version"], failed["line"], failed["statement"]) == (
            "002",
            7,
            "create index on molecules (nmae)",
        )
        assert failed["file"].endswith("002_index.sql")
        assert document["database_state"].endswith("Nothing is half done.")
        assert json.loads(json.dumps(document)) == document

    def test_of_a_mistake_says_that_nothing_was_changed(self) -> None:
        document = error_document(ConfigurationError("No.", hint="Do this."))
        assert document == {
            "error": {"type": "ConfigurationError", "message": "No.", "hint": "Do this."},
            "completed": [],
            "failed": None,
            "database_state": "Nothing was changed.",
        }

    def test_of_a_run_that_was_stopped_names_what_stays(self) -> None:
        error = LockBusyError("Lost.")
        error.completed = (StepResult("001", "a", Outcome.APPLIED),)
        document = error_document(error)
        assert document["completed"][0]["version"] == "001"
        assert "001_a" in document["database_state"]

    def test_never_claims_what_it_does_not_know(self) -> None:
        assert error_document(LockBusyError("Lost."))["database_state"] is None

    def test_of_a_defect_says_so(self) -> None:
        document = error_document(KeyError("x"))
        assert document["error"]["type"] == "KeyError"
        assert "a defect of this tool" in document["error"]["message"]
        assert "--debug" in document["error"]["hint"]

    def test_masks_secrets_everywhere(self) -> None:
        url = "postgresql://bob:s3cr3t@host/db"
        bad = failure(message=url, detail=url, server_hint=url, next_steps=(url,), database_state=url)
        for error in (MigrationFailed(bad), MigrationError(url, hint=url), ValueError(url)):
            assert "s3cr3t" not in json.dumps(error_document(error))
            assert "s3cr3t" not in "\n".join(error_lines(error))


class TestFailureLines:
    def test_tell_everything_in_order(self) -> None:
        text = "\n".join(failure_lines(failure()))
        parts = [
            'Migration 002_index did not apply: column "nmae" does not exist',
            "002_index.sql, line 7",
            "3 of 5",
            "7 | create index on molecules (nmae);",
            "Perhaps you meant",
            "Done before: applied 001_first.",
            "What state is the database in?",
            "What now?",
            "1. Mend 002_index.sql.",
            "2. Run `flask db-migrate apply` again.",
        ]
        places = [text.find(part) for part in parts]
        assert -1 not in places, parts[places.index(-1)]
        assert places == sorted(places)

    def test_fit_into_80_columns(self) -> None:
        long = "word " * 60
        for line in failure_lines(failure(database_state=long, next_steps=(long,), source_line="x " * 200)):
            assert len(line) <= WIDTH

    @pytest.mark.parametrize("source", ["select nmae", "\tselect\tnmae", "s" * 100 + " nmae " + "t" * 100])
    def test_the_caret_stands_under_the_column(self, source: str) -> None:
        lines = failure_lines(failure(source_line=source, column=source.index("nmae") + 1))
        caret = next(line for line in lines if line.strip(" |") == "^")
        shown = lines[lines.index(caret) - 1]
        assert shown[caret.index("^") :].startswith("nmae")

    def test_the_caret_counts_wide_characters_twice(self) -> None:
        lines = failure_lines(failure(source_line="select '分子', nmae", column=14))
        caret = next(line for line in lines if line.strip(" |") == "^")
        shown = lines[lines.index(caret) - 1]
        assert caret.index("^") == shown.index("nmae") + 2

    def test_no_caret_without_a_column(self) -> None:
        assert not any("^" in line for line in failure_lines(failure(column=None)))

    def test_no_caret_under_a_line_in_which_something_was_masked(self) -> None:
        lines = failure_lines(failure(source_line="select dblink('postgresql://a:s3cr3t@h/d')", column=10))
        assert "s3cr3t" not in "\n".join(lines)
        assert not any(line.strip(" |") == "^" for line in lines)

    def test_of_a_script_that_failed_in_python(self) -> None:
        bare = Failure("003", "x", Direction.ROLLBACK, "ValueError: no")
        text = "\n".join(failure_lines(bare))
        assert text.startswith("Migration 003_x did not roll back: ValueError: no")

    def test_control_characters_do_not_reach_a_terminal(self) -> None:
        text = "\n".join(failure_lines(failure(message="a\x1b[2Jb", detail="\x07\u202e", name="n\rx")))
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\r" not in text
        assert "\u202e" not in text
        assert "\\x1b[2J" in text


class TestErrorLines:
    def test_sentence_place_cure(self) -> None:
        error = MigrationError("It is wrong.", hint="Mend it.", file=Path("/srv/a.py"), line=3)
        assert error_lines(error) == ["It is wrong.", "  /srv/a.py, line 3", "Mend it."]

    def test_a_file_that_the_sentence_names_is_not_named_twice(self) -> None:
        assert error_lines(MigrationError("a.py is wrong.", file=Path("/srv/a.py"))) == ["a.py is wrong."]

    def test_every_problem_of_a_folder_is_listed(self) -> None:
        problems = (
            Problem((Path("/a"),), "001_a.sql and 1_b.sql clash.", "Rename one."),
            Problem((Path("/c"),), "002_c.py has a bad header.", "Mend it."),
        )
        text = "\n".join(error_lines(InvalidDirectoryError("001_a.sql and 1_b.sql clash.", problems=problems)))
        assert text.count("001_a.sql and 1_b.sql clash.") == 1
        assert "- 002_c.py has a bad header.\n    Mend it." in text

    def test_indented_lines_of_a_hint_stay_as_they_are(self) -> None:
        error = ConfigurationError("No migrations.", hint="Add:\n    a = 1\n    b = 2")
        assert error_lines(error) == ["No migrations.", "Add:", "    a = 1", "    b = 2"]

    def test_a_defect_is_one_sentence(self) -> None:
        first, second = error_lines(ValueError("x\ny"))
        assert first == "unexpected error (a defect of this tool): ValueError: x y"
        assert "--debug" in second


def test_wrapping_never_breaks_a_command() -> None:
    command = "`flask db-migrate rollback --target 004 --env production --yes`"
    for length in range(20, 70, 7):
        assert any(command in line for line in wrapped("x" * length + " " + command + " and more"))


def test_printable_keeps_letters_of_every_language() -> None:
    assert printable("Молекулы 分子 é €\ttab") == "Молекулы 分子 é €\ttab"
    assert printable("a\nb\udc80") == "a\\nb\\udc80"
