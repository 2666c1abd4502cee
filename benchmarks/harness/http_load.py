"""Requests over kept connections, as fast as clients get answers, and how long each took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlsplit

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


class Client:
    """One connection. path: of every request."""

    def __init__(self, url: str, path: str, headers: Headers = no_headers) -> None:
        parts = urlsplit(url)
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        self._path, self._headers = path, headers

    def post(self, body: bytes) -> bytes:
        """Return the answer. Raises RuntimeError for any status but 200."""
        self._connection.request("POST", self._path, body, {**JSON, **self._headers(body)})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{self._path}: expected status 200; got {answer.status}: {content[:200]!r}")
        return content


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
