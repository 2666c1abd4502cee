"""Ray Serve with a model per group, by its model multiplexing: ``python ray_models.py MODELS PORT``.

Runs in an environment of its own, with `ray[serve]` and without Spinney. MODELS: a folder with a file per model, as
`write_models` writes it. Prints "ready" once it answers ``POST /predict`` on this machine, and ends with SIGTERM.

One replica, as the gateway is one process. It keeps every model that it has loaded.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEADER = "serve_multiplexed_model_id"
"""Names the model of a request."""

MOST_MODELS = 100_000
"""Models that the replica keeps: more than a benchmark asks for."""

MOST_ONGOING = 100
"""Requests that the replica works on at a time. Ray's default is 5."""


def write_models(folder: Path, coefficients: Mapping[str, Sequence[float]]) -> None:
    """Write a file per model. coefficients: name of a model -> intercept, and a weight for each feature."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in coefficients.items():
        (folder / f"{name}.json").write_text(json.dumps(list(values)), encoding="utf-8")


def load_model(folder: Path, name: str) -> list[float]:
    """Return the coefficients of a model."""
    return [float(value) for value in json.loads((folder / f"{name}.json").read_bytes())]


def predict(coefficients: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the predictions of a model. rows: with the features x0, x1, …; other fields are ignored."""
    intercept, *weights = coefficients
    return [intercept + sum(weight * row[f"x{n}"] for n, weight in enumerate(weights)) for row in rows]


def serve_models(folder: Path, port: int) -> None:
    """Answer requests until SIGTERM."""
    import ray
    from ray import serve

    @serve.deployment(num_replicas=1, max_ongoing_requests=MOST_ONGOING)
    class Models:
        """The models of all groups."""

        @serve.multiplexed(max_num_models_per_replica=MOST_MODELS)
        async def load(self, name: str) -> list[float]:
            """Return a model, which Ray keeps."""
            return load_model(folder, name)

        async def __call__(self, request: Any) -> dict[str, list[float]]:
            """Answer a request."""
            body = await request.json()
            return {"predictions": predict(await self.load(serve.get_multiplexed_model_id()), body["records"])}

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Models.bind(), route_prefix="/predict")
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    serve_models(Path(sys.argv[1]).absolute(), int(sys.argv[2]))
