"""Runs the gateway until it is stopped."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable
from threading import Timer
from types import FrameType

import uvicorn

from spinney.core.config import Config
from spinney.core.errors import SetupError
from spinney.gateway.app import create_app
from spinney.gateway.authorization import guard_by_keys, guard_of_this_machine, is_loopback
from spinney.gateway.limits.connection_limits import LimitedProtocol
from spinney.gateway.memory_release import release_free_memory, use_system_allocator
from spinney.gateway.shared_state import Service
from spinney.storage.api_keys import KeyRing
from spinney.storage.layout import FleetStore
from spinney.tables import lookup

KEEP_ALIVE_S, BACKLOG = 75, 2048


def serve(config: Config, *, insecure: bool, on_listening: Callable[[str], None]) -> None:
    """Answer requests until Ctrl-C or SIGTERM. After SIGTERM requests are answered for `gateway.drain` longer.

    Then no new connection is accepted, and open requests are answered. on_listening: called with the URL.

    Raises SetupError if there is no API key and not `insecure`, if `insecure` is combined with an address that other
    machines can reach, or if the address cannot be listened on. Raises StoreError if the tables do not exist.
    """
    gateway, ring = config.gateway, KeyRing(FleetStore.of(config))
    if insecure and not is_loopback(gateway.host):
        raise SetupError(
            f"gateway: expected a host of this machine alone with --insecure, such as 127.0.0.1; got {gateway.host}. "
            "Change gateway.host, or make a key: spinney keys add NAME --scope score"
        )
    if not insecure and not ring.has_valid_key:
        raise SetupError(
            f"gateway: expected an API key of fleet {config.fleet.name}; got none. Make one: "
            "spinney keys add NAME --scope score. Or allow anybody on this machine: --insecure"
        )
    use_system_allocator()
    lookup.keep_tables_open()
    listening = _listen(gateway.host, gateway.port)
    service = Service(config, guard_of_this_machine() if insecure else guard_by_keys(ring))
    gc.collect()
    gc.freeze()  # of what stays for ever: each full collection would look at it, 50 ms in which nobody is answered
    release_free_memory()
    server = _DrainingServer(
        service,
        uvicorn.Config(
            create_app(service),
            log_config=None,
            access_log=False,
            http=LimitedProtocol,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(service.time_limit_s) + 1,
        ),
    )
    host, port = listening.getsockname()[:2]
    on_listening(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when all is answered
    try:
        server.run([listening])
    except KeyboardInterrupt:
        return


class _DrainingServer(uvicorn.Server):
    """Continues to answer for `gateway.drain` after the first SIGTERM, and asks clients to close their connections.

    If the server closed a connection while its client sends the next request, that request would be lost.
    """

    def __init__(self, service: Service, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at once, or begin to drain."""
        drain_s = self._service.config.gateway.drain.total_seconds()
        if sig != signal.SIGTERM or not drain_s or self._service.is_draining:
            super().handle_exit(sig, frame)
            return
        self._service.drain()
        end = Timer(drain_s, super().handle_exit, (sig, frame))
        end.daemon = True
        end.start()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that takes connections. Raises SetupError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Only on a socket that says it is TCP does asyncio set TCP_NODELAY; without it each answer takes 40 ms more.
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        raise SetupError(
            f"gateway: expected to listen on {host} port {port}; got {error}. Change gateway.host or gateway.port"
        ) from error
    return made
