"""Pages that say one thing: not there, closed, broken."""

from __future__ import annotations

from ...errors import MigrationError
from ..access import Peer
from .elements import Message


def not_found(text: str) -> Message:
    """Return the page for what is not there."""
    return Message("Not found", text, way_back=True)


def broken(error: MigrationError) -> Message:
    """Return the page for an error that leaves nothing else to show."""
    return Message("Something is not set up right", error.message, error.hint or "")


def closed(peer: Peer) -> Message:
    """Return the page that tells a developer why the door is closed, and the two lines that open it."""
    return Message(
        "The migrations page is closed",
        "Until the app says who may see it, it opens in development only, and only to a browser on the same machine: "
        f"{_why(peer)}.",
        "To open it, tell the extension who may and who is asking:",
        code=(
            "migrations.authorize = lambda action: current_user.is_admin",
            "migrations.identify = lambda: current_user.name",
        ),
    )


def _why(peer: Peer) -> str:
    if peer.forwarded:
        return "this request came through a proxy"
    if not peer.is_loopback:
        return f"this request came from {peer.address or 'an unknown address'}"
    if not peer.names_loopback:
        return f"this request was sent to {peer.host or 'no host'}, which is not this machine's own name for itself"
    return "this app runs in another environment"
