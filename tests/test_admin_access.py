"""Who may see the admin page: callbacks, environments, sockets, Host headers and proxies."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from cryoprotect.migrations_ext.admin.access import Action, Peer, actor_of, is_allowed
from cryoprotect.migrations_ext.errors import ConfigurationError

LOCAL_PEERS = ("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1")
FOREIGN_PEERS = ("192.168.1.7", "172.17.0.1", "0.0.0.0", "10.0.0.1", "2001:db8::1", "", None, "@", "localhost")
LOCAL_HOSTS = (
    "localhost", "localhost:5000", "LocalHost:5000", "localhost.", "app.localhost:8000", "127.0.0.1",
    "127.0.0.1:5000", "127.1.2.3", "[::1]", "[::1]:5000",
)  # fmt: skip
FOREIGN_HOSTS = (
    "example.org", "localhost.example.org", "127.0.0.1.example.org", "notlocalhost", "evil-localhost", "localhost:x",
    "localhost:5000@example.org", "example.org:localhost", "0.0.0.0", "10.0.0.1:5000", "[::2]", "::1", "", None,
    "localhost\n", " localhost", "localhost/example.org", "\uff11\uff12\uff17.0.0.1",
)  # fmt: skip
PROXY_HEADERS = (
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Server", "Forwarded", "Via", "X-Real-IP",
    "CF-Connecting-IP",
)  # fmt: skip


def peer(address: str | None = "127.0.0.1", host: str | None = "localhost:5000", **headers: str) -> Peer:
    environ: dict[str, Any] = {"REMOTE_ADDR": address, "HTTP_HOST": host, **headers}
    return Peer.from_environ({key: value for key, value in environ.items() if value is not None})


def allowed(peer: Peer, environment: str = "development", authorize: Any = None, action: Any = Action.VIEW) -> bool:
    with Flask("host").app_context():
        return is_allowed(action, authorize=authorize, environment=environment, peer=peer)


@pytest.mark.parametrize(("address", "host"), list(itertools.product(LOCAL_PEERS, LOCAL_HOSTS)))
def test_a_developer_at_this_machine_may(address: str, host: str) -> None:
    assert allowed(peer(address, host))


@pytest.mark.parametrize("address", FOREIGN_PEERS)
def test_another_machine_may_not(address: str | None) -> None:
    assert not allowed(peer(address))


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_host_header_may_not(host: str | None) -> None:
    assert not allowed(peer(host=host))


@pytest.mark.parametrize("header", PROXY_HEADERS)
def test_what_came_through_a_proxy_may_not(header: str) -> None:
    key = "HTTP_" + header.upper().replace("-", "_")
    assert not allowed(peer(**{key: "127.0.0.1"}))
    assert not allowed(peer(**{key: ""}))


@pytest.mark.parametrize("environment", ["testing", "staging", "production", "preview"])
def test_without_callbacks_only_development_is_open(environment: str) -> None:
    assert not allowed(peer(), environment)


@pytest.mark.parametrize("environment", ["development", "testing", "staging", "production", "preview"])
@pytest.mark.parametrize("answer", [True, False])
def test_the_word_of_the_host_decides_everywhere(environment: str, answer: bool) -> None:
    stranger = peer("203.0.113.9", "example.org", HTTP_X_FORWARDED_FOR="198.51.100.1")
    assert allowed(stranger, environment, lambda _: answer) is answer
    assert allowed(peer(), environment, lambda _: answer) is answer


def test_the_host_is_told_the_action_as_text() -> None:
    asked: list[str] = []
    for action in Action:
        allowed(peer(), authorize=lambda name: asked.append(name) or True, action=action)
    assert asked == ["view", "apply", "rollback", "repair"]
    assert {type(name) for name in asked} == {str}


@pytest.mark.parametrize("answer", [None, 1, "yes", object(), ("Log in", 302)])
def test_an_answer_that_is_no_answer_opens_nothing(answer: object) -> None:
    with pytest.raises(ConfigurationError, match=r"authorize\('view'\) answered"):
        allowed(peer(), authorize=lambda _: answer)


def test_proxy_fix_changes_nothing() -> None:
    """A request whose forwarded headers claim localhost: ProxyFix believes them, we look at the socket."""
    seen: list[Peer] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(Peer.from_environ(environ))
        return []

    claims = {"HTTP_X_FORWARDED_FOR": "127.0.0.1", "HTTP_X_FORWARDED_HOST": "localhost"}
    fixed = ProxyFix(app, x_for=1, x_host=1)  # type: ignore[arg-type]
    list(fixed({"REMOTE_ADDR": "203.0.113.9", "HTTP_HOST": "example.org", **claims}, lambda *_: None))
    list(fixed({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost", **claims}, lambda *_: None))
    list(fixed({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost"}, lambda *_: None))
    assert (seen[0].address, seen[0].host) == ("203.0.113.9", "example.org")
    assert [p.is_local for p in seen] == [False, False, True]


def test_the_actor_is_whom_the_host_names() -> None:
    with Flask("host").app_context():
        assert actor_of(None) is None
        assert actor_of(lambda: " alice ") == "alice"


@pytest.mark.parametrize("answer", [None, "", "  ", 7])
def test_nobody_is_no_actor(answer: Any) -> None:
    with Flask("host").app_context(), pytest.raises(ConfigurationError, match=r"identify\(\) answered"):
        actor_of(lambda: answer)
