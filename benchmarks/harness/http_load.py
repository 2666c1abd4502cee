"""Requests over kept connections, as fast as clients get answers, and how long each took."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools
import numpy as np


@dataclass(frozen=True)
class Load:
    """What clients measured. seconds: of each request, in no order. wall_s: of all together."""

    seconds: np.ndarray
    wall_s: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.seconds) / self.wall_s

    def ms(self, percent: float) -> float:
        """A percentile of the milliseconds of a request."""
        return float(np.percentile(self.seconds, percent) * 1e3)


JSON = {"Content-Type": "application/json"}
Headers = Callable[[bytes], Mapping[str, str]]
"""Returns the headers of a request in addition to those for JSON. Given its body."""


def no_headers(body: bytes) -> Mapping[str, str]:
    """Return none."""
    del body
    return {}


class _Answer:
    """What a parser has read of an answer."""

    def __init__(self) -> None:
        self.content, self.is_complete = b"", False

    def on_body(self, body: bytes) -> None:
        self.content += body

    def on_message_complete(self) -> None:
        self.is_complete = True


class Client:
    """One connection. path: of every request.

    It takes 0.06 ms of CPU a request, http.client 0.2 ms. The clients of `send` share an interpreter, so that they
    would wait for one another and not only for the server.
    """

    def __init__(self, url: str, path: str, headers: Headers = no_headers) -> None:
        parts = urlsplit(url)
        self._address, self._path, self._headers = (parts.hostname or "", parts.port or 80), path, headers
        self._connection: socket.socket | None = None

    def post(self, body: bytes) -> bytes:
        """Return the answer. Raises RuntimeError for any status but 200."""
        if self._connection is None:
            self._connection = socket.create_connection(self._address, timeout=120)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(self._head(body) + body)
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.is_complete:
            part = self._connection.recv(1 << 18)
            if not part:
                raise RuntimeError(f"{self._path}: expected an answer; got the end of the connection")
            parser.feed_data(part)
        if not parser.should_keep_alive():
            self._connection.close()
            self._connection = None
        if parser.get_status_code() != 200:
            found = f"{parser.get_status_code()}: {answer.content[:200]!r}"
            raise RuntimeError(f"{self._path}: expected status 200; got {found}")
        return answer.content

    def _head(self, body: bytes) -> bytes:
        host, port = self._address
        headers = {"Host": f"{host}:{port}", **JSON, "Content-Length": len(body), **self._headers(body)}
        lines = [f"POST {self._path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode()


def repeated(bodies: Sequence[bytes]) -> Callable[[int], Iterator[bytes]]:
    """Return what each client sends when all go round and round through these bodies."""

    def of_client(client: int) -> Iterator[bytes]:
        at = client * 7
        while True:
            yield bodies[at % len(bodies)]
            at += 1

    return of_client


def send(
    url: str,
    path: str,
    clients: int,
    bodies: Callable[[int], Iterator[bytes]],
    seconds: float,
    headers: Headers = no_headers,
) -> Load:
    """Send for some seconds, or until there are no more bodies. Raises RuntimeError: a request failed."""
    took: list[list[float]] = [[] for _ in range(clients)]
    errors: list[Exception] = []
    end = time.monotonic() + seconds

    def run(number: int) -> None:
        try:
            client = Client(url, path, headers)
            for body in bodies(number):
                began = time.perf_counter()
                client.post(body)
                took[number].append(time.perf_counter() - began)
                if time.monotonic() > end:
                    return
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise RuntimeError(f"load on {path}: {errors[0]}") from errors[0]
    return Load(np.concatenate([np.array(mine) for mine in took]), time.monotonic() - began)
