"""Ray Serve as a peer of the gateway: the same rows, answered by the same models, in a Python of its own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import http_load, ray_models
from harness.process_tree import ONLY_WHEN_ASKED_S, Process, last_lines

PEER = "Ray Serve, model multiplexing"
NOT_RUN = f"{PEER}: not run, since --ray-python names no Python that has ray[serve]"
PATH = "/predict"


@dataclass(frozen=True)
class RayFigures:
    """What clients and the process tree measured. Times in milliseconds, cold: of models asked for the first time."""

    warm_p50: float
    warm_p99: float
    rate: float
    cpu_ms: float
    cold_p50: float
    cold_p99: float
    mb: float


@dataclass(frozen=True)
class RayLoad:
    """What is asked. hot, cold: rows with the `shop` that names their model. seconds: of the warm part."""

    hot: Sequence[Mapping[str, Any]]
    cold: Sequence[Mapping[str, Any]]
    clients: int
    seconds: float


def headers_by_body(rows: Iterable[Mapping[str, Any]]) -> dict[bytes, dict[str, str]]:
    """Return a request for each row, with the header that names its model."""
    return {json.dumps({"records": [row]}).encode(): {ray_models.HEADER: str(row["shop"])} for row in rows}


def measure_ray(python: Path, folder: Path, load: RayLoad) -> RayFigures:
    """Serve the models of a folder by Ray, and send the load. python: of the environment with ray[serve].

    Raises RuntimeError: Ray ended, or a request failed.
    """
    port = 30_000 + os.getpid() % 10_000
    command = [str(python), ray_models.__file__, str(folder), str(port)]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
    with Process(command, folder.parent, name="ray", environment=quiet, interval_s=ONLY_WHEN_ASKED_S) as server:
        while "ready" not in server.out.read_text(encoding="utf-8"):
            if not server.runs:
                raise RuntimeError(f"ray: expected it to answer; its last lines:\n{last_lines(server.err)}")
            time.sleep(0.1)
        figures = _measured(f"http://127.0.0.1:{port}", server, load)
        server.stop()
    return figures


def _measured(url: str, server: Process, load: RayLoad) -> RayFigures:
    hot, cold = headers_by_body(load.hot), headers_by_body(load.cold)
    bodies = http_load.repeated([*hot])
    http_load.send(url, PATH, load.clients, bodies, 1.0, hot.__getitem__)
    before = server.measure().cpu_s
    warm = http_load.send(url, PATH, load.clients, bodies, load.seconds, hot.__getitem__)
    cpu_ms = 1e3 * (server.measure().cpu_s - before) / len(warm.seconds)
    first = http_load.send(url, PATH, 1, lambda _: iter(cold), 60.0, cold.__getitem__)
    mb = server.measure().memory[-1][1]
    return RayFigures(warm.ms(50), warm.ms(99), warm.rate, cpu_ms, first.ms(50), first.ms(99), mb)
