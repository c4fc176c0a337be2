"""No secret of a database URL survives in a text, and nothing else is blotted out."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoprotect.migrations_ext.redaction import carries_secret, redact, redact_values

LEAKS = [
    "postgresql://bob:s3cr3t@host:5432/db?sslmode=require&password=s3cr3t",
    "'postgresql+psycopg2://bob:p@s3cr3t@host/db'",
    "postgresql://bob:pa/s3cr3t@host/db",
    "could not connect to postgresql://bob:my s3cr3t@host/db now",
    'invalid dsn: missing "=" after "bob:s3cr3t@host/db" in connection info string',
    'invalid dsn: missing "=" after "s3cr3t" in connection info string\n',
    'invalid percent-encoded token: "p%zzs3cr3t"',
    'missing key/value separator "=" in URI query parameter: "s3cr3t"',
    'could not translate host name "s3cr3t@host" to address: Name or service not known',
    'connection to server at "s3cr3t@host", port 5432 failed',
    "invalid literal for int() with base 10: 's3cr3t@host'",
    'invalid integer value "s3cr3t@host" for connection option "port"',
    "host=h password=s3cr3t dbname=d",
    "password = 's3cr3t with blanks'",
    "PGPASSWORD=s3cr3t psql",
    "sslpassword=s3cr3t",
    "{'user': 'bob', 'password': 's3cr3t'}",
    '{"password": "s3cr3t"}',
    "postgres//bob:s3cr3t@host/db",
    "Could not parse SQLAlchemy URL from string 'bob:s3cr3t@host/db'",
    "sqlite:///x.db?key=s3cr3t",
    "POSTGRESQL://bob:s3cr3t@host",
]

HARMLESS = [
    "http://127.0.0.1:5000/admin/migrations?page=1",
    "postgresql://localhost:5432/db, ask admin@example.org",
    "sqlite:////var/lib/app/x.db",
    'FATAL: password authentication failed for user "bob"',
    "Key (password)=(abc) already exists.",
    'File "migrations/001_a.py", line 3',
    "2026-01-01 10:00:00 bob@host",
    'operator does not exist: jsonb @> "a"',
    "applied 001_passwords  12 ms",
    "",
]


@pytest.mark.parametrize("text", LEAKS)
def test_a_secret_is_masked_in_every_shape(text: str) -> None:
    masked = redact(text)
    assert "s3cr3t" not in masked
    assert "***" in masked
    assert redact(masked) == masked


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("url", "leak"),
    [
        ("postgresql://bob:hunter2!@host/db", "the word hunter2! alone"),
        ("postgresql://bob:p%40ss%20word@host/db", "decoded: p@ss word"),
        ("postgresql://bob:p@ssw@host/db", "unknown host 'ssw@host'"),
        ("postgresql://bob:it's me@host/db", "it's me"),
        ("postgresql://host/db?user=bob&password=hunter2", "the word hunter2 alone"),
    ],
)
def test_what_is_in_a_known_url_is_masked_wherever_it_turns_up(url: str, leak: str) -> None:
    assert "***" in redact(leak, [url])


def test_a_password_that_is_the_user_or_the_database_leaves_their_names_readable() -> None:
    url = "postgresql://postgres:postgres@localhost/postgres"
    assert redact('role "postgres" does not exist', [url]) == 'role "postgres" does not exist'
    assert redact(f"cannot connect to {url}", [url]) == "cannot connect to postgresql://***@localhost/postgres"


@given(st.text(min_size=4, max_size=30).filter(lambda p: p.strip() == p and "***" not in p))
def test_any_password_of_a_known_url_is_masked(password: str) -> None:
    canary = f"Zq9{password}"
    for url in (f"postgresql://bob:{canary}@host/db", f"postgresql://bob:{quote(canary, safe='')}@host/db"):
        assert canary not in redact(f"so: {url} and {canary}.", [url])


def test_documents_are_redacted_value_by_value() -> None:
    document = {"a": ["postgresql://u:s3cr3t@h/d", 1, None], "b": {"c": "password=s3cr3t"}}
    assert redact_values(document) == {"a": ["postgresql://***@h/d", 1, None], "b": {"c": "password=***"}}


def test_a_url_with_a_secret_is_told_from_one_without() -> None:
    assert carries_secret("postgresql://u:p@h/d")
    assert carries_secret("postgresql://h/d?password=x")
    assert not carries_secret("postgresql://h/d")
    assert not carries_secret(7)
