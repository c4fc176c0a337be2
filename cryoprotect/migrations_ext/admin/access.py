"""The host's word decides who may; without it, only a developer at this very machine, in development."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from flask import current_app

from ..errors import ConfigurationError
from ..peer import Peer

Identify = Callable[[], str]
Authorize = Callable[[str], bool]


class Action(StrEnum):
    """What the host's `authorize` is asked about."""

    VIEW = "view"
    APPLY = "apply"
    ROLLBACK = "rollback"
    REPAIR = "repair"


def is_allowed(action: Action, *, authorize: Authorize | None, environment: str, peer: Peer) -> bool:
    """Return whether this request may do `action`.

    Raises `ConfigurationError` where the host's `authorize` answers anything but True or False: a redirect to
    a login page would count as yes.
    """
    if authorize is None:
        return environment == "development" and peer.is_local
    answer = current_app.ensure_sync(authorize)(action.value)
    if not isinstance(answer, bool):
        raise ConfigurationError(
            f"authorize({action.value!r}) answered {type(answer).__name__}; the page stays closed.",
            hint="Let it return True or False, or end the request itself with flask.abort().",
        )
    return answer


def actor_of(identify: Identify | None) -> str | None:
    """Return who the host says is asking, or None where the host was not asked.

    Raises `ConfigurationError` where the host's `identify` gives no name.
    """
    if identify is None:
        return None
    name = current_app.ensure_sync(identify)()
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(
            f"identify() answered {type(name).__name__}, which is no name.",
            hint="Let it return the name that the history shall keep; authorize() turns strangers away before.",
        )
    return name.strip()


__all__ = ["Action", "Authorize", "Identify", "Peer", "actor_of", "is_allowed"]
