"""Who is at the other end of a request, as the socket tells it and not as a header claims."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_PROXY_HEADERS = (
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "HTTP_X_REAL_IP",
    "HTTP_X_CLIENT_IP",
    "HTTP_X_CLUSTER_CLIENT_IP",
    "HTTP_CLIENT_IP",
    "HTTP_TRUE_CLIENT_IP",
    "HTTP_CF_CONNECTING_IP",
    "HTTP_FASTLY_CLIENT_IP",
)
_PROXY_HEADER_PREFIX = "HTTP_X_FORWARDED"  # -For, -Host, -Proto, -Port, -Prefix, -Server, …
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a request comes from, as the socket tells it and not as a header claims."""

    address: str | None
    host: str | None
    """The Host header as it arrived."""
    forwarded: bool
    """Whether it came through a proxy: then the socket's address is the proxy's."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, Any]) -> Self:
        """Read a WSGI environ; what werkzeug's ProxyFix has replaced is taken as it was before."""
        original: Mapping[str, Any] = environ.get("werkzeug.proxy_fix.orig") or environ
        return cls(
            address=original.get("REMOTE_ADDR"),
            host=original.get("HTTP_HOST"),
            forwarded=any(k in _PROXY_HEADERS or k.startswith(_PROXY_HEADER_PREFIX) for k in environ),
        )

    @property
    def is_loopback(self) -> bool:
        """Whether the socket's other end is this machine."""
        return _is_loopback_address(self.address)

    @property
    def names_loopback(self) -> bool:
        """Whether the Host header is one of this machine's own names.

        A hostile page whose name resolves to 127.0.0.1 (DNS rebinding) reaches the socket as loopback, but
        carries its own name.
        """
        return _is_loopback_host(self.host)

    @property
    def is_local(self) -> bool:
        """Whether a program on this machine asks this machine by its own name, with nothing in between."""
        return not self.forwarded and self.is_loopback and self.names_loopback


def _is_loopback_address(text: str | None) -> bool:
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:  # a Unix socket, or nothing: somebody's proxy
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _is_loopback_host(header: str | None) -> bool:
    match = _HOST.fullmatch(header or "")
    if match is None:
        return False
    name = match["name"].lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_loopback_address(name.strip("[]"))
