"""The gateway under load: milliseconds, requests per second and memory, beside `mlflow models serve` of one model.

A fleet of linear models of four features. `spinney serve` and MLflow's server run in turn, each alone, on this machine,
with the same client: it keeps its connections and sends the next request when it has the answer.

- warm: single rows of a hundred groups, by --clients clients. MLflow's server answers the same rows, with the names of
  their features, by one scikit-learn model. With --ray-python, Ray Serve answers the same rows by the same models.
- cold: a single row of a group that was never asked for; one client. Unseen: of a group that there is not.
- mixed: one request with 10,000 rows of 1,000 groups.
- pass: all groups once, in requests of 1,000, through a cache that holds a tenth of them; between, a hot set of a
  hundred groups is asked for again. Its hit rate before and after is from /metrics.

--ray-python names the Python of a virtual environment in which ``pip install "ray[serve]"`` was run. --no-mlflow leaves
MLflow's server out.

A ratio is ours over the peer's. Run: ``python benchmarks/gateway.py --groups 50000``, in about two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import requests
from harness import http_load
from harness.fleet import KEY
from harness.http_load import Client, Load
from harness.process_tree import ONLY_WHEN_ASKED_S, PROJECT, Process, python
from harness.ray_models import write_models
from harness.ray_serving import NOT_RUN, RayFigures, RayLoad, measure_ray
from harness.ray_serving import PEER as RAY
from harness.results import Measure, arguments, show, work_folder

sys.path.append(str(PROJECT / "tests" / "support"))

from linear_fleet import DEPARTMENTS, FEATURES, LinearFleet, key_of, write_fleet

SIZES = {"groups": 50_000, "clients": 4, "seconds": 8.0}
HOT, COLD = 100, 400
ROWS, ROWS_GROUPS, REQUESTS = 10_000, 1_000, 10
PEER = "mlflow models serve, one model"
NO_MLFLOW = f"{PEER}: not run, since --no-mlflow was given"
BYTES_PER_MODEL = 1_050
"""Of a linear model of four features, as the cache counts them."""


def main() -> None:
    parser = arguments(__doc__ or "", SIZES, needs_broker=False)
    parser.add_argument("--no-mlflow", action="store_true", help="do not measure MLflow's server")
    parser.add_argument("--ray-python", type=Path, help="a Python that has ray[serve]: measure Ray Serve too")
    asked = parser.parse_args()
    os.environ["SPINNEY_SIGNING_KEY"] = KEY
    measures = {measure.what: measure for measure in MEASURES}
    with work_folder() as folder:
        cache_mib = max(1, asked.groups * BYTES_PER_MODEL // 10 >> 20)
        fleet = write_fleet(folder / "fleet", asked.groups, more="[gateway]\nport = 0")
        write_fleet(folder / "small", asked.groups, more=f"[gateway]\nport = 0\ncache_mib = {cache_mib}")
        if not asked.no_mlflow:
            save_peer(folder / "model")
        for _ in range(asked.runs):
            mlflow = None if asked.no_mlflow else run_mlflow(folder / "model", asked)
            ray = run_ray(asked, folder / "ray", fleet) if asked.ray_python else None
            run_ours(folder / "fleet", asked, Peers(mlflow, ray), measures)
            run_pass(folder / "small", asked.groups, measures)
    notes = ([NO_MLFLOW] if asked.no_mlflow else []) + ([] if asked.ray_python else [NOT_RUN])
    asked.ray_python = str(asked.ray_python or "")
    show(asked, MEASURES, notes)


MEASURES = (
    Measure("warm, median", "ms", peer=PEER),
    Measure("warm, 99 %", "ms", peer=PEER, target="≤ 5"),
    Measure("warm, rate", "requests/s", better="more", peer=PEER, target="≥ 2 × the peer's"),
    Measure("warm, CPU of the server per request", "ms", peer=PEER),
    Measure("warm, median, beside Ray", "ms", peer=RAY),
    Measure("warm, 99 %, beside Ray", "ms", peer=RAY),
    Measure("warm, rate, beside Ray", "requests/s", better="more", peer=RAY),
    Measure("warm, CPU per request, beside Ray", "ms", peer=RAY),
    Measure("cold, median", "ms", peer=RAY),
    Measure("cold, 99 %", "ms", peer=RAY),
    Measure("unseen, median", "ms"),
    Measure("unseen, 99 %", "ms"),
    Measure("10,000 rows of 1,000 groups, median", "ms", target="≤ 60"),
    Measure("start until it answers", "s"),
    Measure("memory with all models loaded", "MB", peer=PEER, target="≤ 500"),
    Measure("memory, all models, beside Ray with 500", "MB", peer=RAY),
    Measure("pass over all groups", "s"),
    Measure("hot set's hit rate before the pass", "%", better="more"),
    Measure("hot set's hit rate after the pass", "%", better="more", target="within 2 points"),
    Measure("memory, cache of a tenth, after the pass", "MB"),
)


@dataclass(frozen=True)
class MlflowFigures:
    """What was measured of MLflow's server. Times in milliseconds."""

    warm_p50: float
    warm_p99: float
    rate: float
    cpu_ms: float
    mb: float


@dataclass(frozen=True)
class Peers:
    """What was measured of the peers in a run; None of those that were not asked for."""

    mlflow: MlflowFigures | None = None
    ray: RayFigures | None = None


def save_peer(folder: Path) -> None:
    import mlflow.sklearn  # with scikit-learn two seconds, which --no-mlflow saves
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(200, len(FEATURES))), columns=list(FEATURES))
    model = Ridge().fit(rows, rows.to_numpy() @ random.normal(size=len(FEATURES)))
    mlflow.sklearn.save_model(model, folder, input_example=rows.iloc[:1])


def run_mlflow(model: Path, asked: argparse.Namespace) -> MlflowFigures:
    port = 20_000 + os.getpid() % 10_000
    command = ["-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local", "-p", str(port)]
    scripts = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}  # it runs uvicorn
    served = python(*command)
    with Process(served, model.parent, name="mlflow", environment=scripts, interval_s=ONLY_WHEN_ASKED_S) as server:
        url = f"http://127.0.0.1:{port}"
        wait_until_it_answers(url, server)
        rows = ({name: values[name] for name in FEATURES} for values in rows_of(HOT))
        bodies = [json.dumps({"dataframe_records": [row]}).encode() for row in rows]
        load, cpu_ms = send_warm(url, "/invocations", server, bodies, asked)
        return MlflowFigures(load.ms(50), load.ms(99), load.rate, cpu_ms, memory_mb(server))


def run_ray(asked: argparse.Namespace, folder: Path, fleet: LinearFleet) -> RayFigures:
    rows = rows_of(min(asked.groups, HOT + COLD))
    write_models(folder, {str(row["shop"]): fleet.coefficients[key_of(n)].tolist() for n, row in enumerate(rows)})
    load = RayLoad(rows[:HOT], rows[HOT:], asked.clients, asked.seconds)
    return measure_ray(asked.ray_python, folder, load)


def run_ours(folder: Path, asked: argparse.Namespace, peers: Peers, measures: dict[str, Measure]) -> None:
    with serving(folder) as (url, server, started_s):
        measures["start until it answers"].add(started_s)
        rows = rows_of(asked.groups)
        load, cpu_ms = send_warm(url, "/predict", server, [body([row]) for row in rows[:HOT]], asked)
        add_warm(load, cpu_ms, peers, measures)
        add_single(url, rows, peers.ray, measures)
        mixed = np.random.default_rng(1).integers(0, min(ROWS_GROUPS, asked.groups), ROWS).tolist()
        request = body([rows[n] for n in mixed])
        load = http_load.send(url, "/predict", 1, lambda _: iter([request] * (REQUESTS + 1)), 60)
        measures["10,000 rows of 1,000 groups, median"].add(float(np.median(load.seconds[1:])) * 1e3)
        pass_over(Client(url, "/predict"), rows)
        mb = memory_mb(server)
        measures["memory with all models loaded"].add(mb, peer=peers.mlflow and peers.mlflow.mb)
        if peers.ray:
            measures["memory, all models, beside Ray with 500"].add(mb, peer=peers.ray.mb)


def send_warm(
    url: str, path: str, server: Process, bodies: Sequence[bytes], asked: argparse.Namespace
) -> tuple[Load, float]:
    """Send these requests again and again; returns what clients measured, and milliseconds of the server's CPU each."""
    http_load.send(url, path, asked.clients, http_load.repeated(bodies), min(1.0, asked.seconds))
    before = server.measure().cpu_s
    load = http_load.send(url, path, asked.clients, http_load.repeated(bodies), asked.seconds)
    return load, 1e3 * (server.measure().cpu_s - before) / len(load.seconds)


def add_warm(warm: Load, cpu_ms: float, peers: Peers, measures: dict[str, Measure]) -> None:
    """Add our figures of the warm load beside those of each peer that was measured in the same run."""
    peer, ray = peers.mlflow, peers.ray
    measures["warm, CPU of the server per request"].add(cpu_ms, peer=peer and peer.cpu_ms)
    measures["warm, median"].add(warm.ms(50), peer=peer and peer.warm_p50)
    measures["warm, 99 %"].add(warm.ms(99), peer=peer and peer.warm_p99)
    measures["warm, rate"].add(warm.rate, peer=peer and peer.rate)
    if ray:
        measures["warm, median, beside Ray"].add(warm.ms(50), peer=ray.warm_p50)
        measures["warm, 99 %, beside Ray"].add(warm.ms(99), peer=ray.warm_p99)
        measures["warm, rate, beside Ray"].add(warm.rate, peer=ray.rate)
        measures["warm, CPU per request, beside Ray"].add(cpu_ms, peer=ray.cpu_ms)


def add_single(
    url: str, rows: Sequence[dict[str, object]], ray: RayFigures | None, measures: dict[str, Measure]
) -> None:
    """Ask for groups whose models are not loaded, and for groups that there are not, row by row."""
    for what, asked in (("cold", rows[HOT : HOT + COLD]), ("unseen", rows_of(min(COLD, len(rows)), first=len(rows)))):
        load = http_load.send(url, "/predict", 1, lambda _, asked=asked: iter([body([row]) for row in asked]), 60)
        peer = ray if what == "cold" else None
        measures[f"{what}, median"].add(load.ms(50), peer=peer and peer.cold_p50)
        measures[f"{what}, 99 %"].add(load.ms(99), peer=peer and peer.cold_p99)


def run_pass(folder: Path, groups: int, measures: dict[str, Measure]) -> None:
    with serving(folder) as (url, server, _):
        rows, client = rows_of(groups), Client(url, "/predict")
        pass_over(client, rows)  # the cache is full
        hot = [rows[n] for n in np.random.default_rng(2).choice(groups, min(HOT, groups), replace=False)]
        measures["hot set's hit rate before the pass"].add(hit_rate(url, client, hot))
        began = time.monotonic()
        pass_over(client, rows, between=hot)
        measures["pass over all groups"].add(time.monotonic() - began)
        measures["hot set's hit rate after the pass"].add(hit_rate(url, client, hot, repeats=1))
        measures["memory, cache of a tenth, after the pass"].add(memory_mb(server))


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Process, float]]:
    """Run `spinney serve` meanwhile; yields its URL, its process and the seconds until it answered."""
    began = time.monotonic()
    command = ["-c", "from spinney.cli import main; main()", "serve", "--insecure"]
    with Process(python(*command), folder, name="serve", interval_s=ONLY_WHEN_ASKED_S) as server:
        while not (found := re.search(r"http://[\d.:]+", server.err.read_text(encoding="utf-8"))):
            if not server.runs:
                raise RuntimeError(f"serve: expected it to answer; got {server.err.read_text(encoding='utf-8')}")
            time.sleep(0.05)
        wait_until_it_answers(found[0], server)
        yield found[0], server, time.monotonic() - began


def wait_until_it_answers(url: str, server: Process) -> None:
    while server.runs:
        try:
            get(url, "/ping")
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise RuntimeError(f"{server.name}: expected it to answer; it ended")


def get(url: str, path: str) -> str:
    return requests.get(f"{url}{path}", timeout=60).text


def rows_of(groups: int, first: int = 0) -> list[dict[str, object]]:
    values = np.random.default_rng(first).normal(size=(groups, len(FEATURES))).round(3).tolist()
    return [
        {"shop": f"s{n}", "dept": f"d{n % DEPARTMENTS}", **dict(zip(FEATURES, mine, strict=True))}
        for n, mine in enumerate(values, first)
    ]


def body(rows: Sequence[dict[str, object]]) -> bytes:
    return json.dumps({"records": rows}).encode()


def pass_over(client: Client, rows: Sequence[dict[str, object]], between: Sequence[dict[str, object]] = ()) -> None:
    for start in range(0, len(rows), ROWS_GROUPS):
        client.post(body(rows[start : start + ROWS_GROUPS]))
        if between:
            client.post(body(between))


def hit_rate(url: str, client: Client, hot: Sequence[dict[str, object]], repeats: int = 20) -> float:
    """Percent of these groups' models that were found loaded, of the last of so many requests."""
    for _ in range(repeats - 1):
        client.post(body(hot))
    before = counts(url)
    client.post(body(hot))
    after = counts(url)
    hits, loads = after[0] - before[0], after[1] - before[1]
    return 100 * hits / (hits + loads)


def counts(url: str) -> tuple[float, float]:
    """Hits and loads since the start."""
    text = get(url, "/metrics")
    names = ("cache_hits_total", "model_loads_total")
    hits, loads = (float(re.search(rf"^spinney_gateway_{name} (\S+)$", text, re.MULTILINE)[1]) for name in names)
    return hits, loads


def memory_mb(server: Process) -> float:
    """Memory of the server now."""
    return server.measure().memory[-1][1]


if __name__ == "__main__":
    main()
