"""Ports of the loopback interface."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from spinney.core.errors import SetupError

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> tuple[int, ...]:
    """Return `count` different free ports. Another process may take one before they are used."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((LOOPBACK, 0))
        return tuple(probe.getsockname()[1] for probe in sockets)


def require_free(port: int, what: str) -> None:
    """Raise unless `port` can be listened on. what: who wants to, in words, for the error.

    Raises:
        SetupError: it is taken, or needs more rights.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the JVM does: what lingers is not in use
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise SetupError(
                f"{what}: port {port} on {LOOPBACK} is taken ({error.strerror}). "
                "Stop what listens there, or choose another port"
            ) from error


def answers(port: int) -> bool:
    """Return whether something accepts connections at `port`."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
