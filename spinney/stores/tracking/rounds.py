"""What MLflow is told of a round: its numbers as a step of its run; of a weekly batch also every group, in files."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from schemas.vocabulary import RoundKind
from spinney.core.config import Config
from spinney.core.recipe import Recipe, canonical
from spinney.stores.tracking import attempts, figures
from spinney.stores.tracking.runs import THROUGH, Run, milliseconds
from spinney.stores.tracking.server import Server

COUNTS = (
    "groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred", "promoted", "unproven", "refused", "held",
)  # fmt: skip
FIGURES = (*COUNTS, "predicted_seconds", "mean_champion_loss", "mean_challenger_loss")

GROUPS_FILE, ROUND_FILE = "groups.parquet", "round.json"

LONGEST_NAME = 250
MOST_METRICS, MOST_PARAMS = 900, 100
"""What one `log_batch` may carry: a thousand in all."""


_OF_STREAM = "stream "
"""What the name of a stream's run begins with, before its day."""


def by_run(rounds: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rounds of each run, oldest first: a stream's by the day they began, a batch's each alone."""
    runs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in sorted(rounds, key=lambda row: row["started_at"]):
        stream = row["kind"] == RoundKind.STREAM.value
        runs[f"{_OF_STREAM}{row['started_at']:%Y-%m-%d}" if stream else row["round_id"]].append(row)
    return runs


def kind_of(name: str) -> RoundKind:
    """Whose rounds stand in the run of this name."""
    return RoundKind.STREAM if name.startswith(_OF_STREAM) else RoundKind.BATCH


def over(name: str) -> bool:
    """Whether no round can come to the run of this name: to a batch's at once, to a stream's when its day is over."""
    return kind_of(name) == RoundKind.BATCH or date.fromisoformat(name.removeprefix(_OF_STREAM)) < today()


def today() -> date:
    return datetime.now(UTC).date()


def tell(server: Server, config: Config, run: Run, fresh: Sequence[Mapping[str, Any]]) -> None:
    """Log these rounds of one run, and then that they are."""
    metrics = [each for row in fresh for each in step(row, numbers(row))]
    # A parameter is never changed: a run that goes on over an edited recipe keeps that of its first round.
    first = parameters(config, fresh[0]) if run.through < 0 else {}
    log(server, run.run_id, first, metrics)
    for row in fresh:
        if row["kind"] == RoundKind.BATCH.value:
            with tempfile.TemporaryDirectory() as folder:
                write_files(config, row, Path(folder))
                server.upload(run.run_id, Path(folder))
    # Last: a deliverer that dies before this logs the same steps and files again, which changes nothing.
    server.ask("set_tag", run.run_id, THROUGH, str(max(row["batch_id"] for row in fresh)))


def log(server: Server, run_id: str, parameters: Mapping[str, str], metrics: Sequence[Any]) -> None:
    """As many calls as it takes, which is one for what there usually is."""
    from mlflow.entities import Param

    params = [Param(name, value) for name, value in {allowed(name): said for name, said in parameters.items()}.items()]
    for at in range(max(math.ceil(len(metrics) / MOST_METRICS), math.ceil(len(params) / MOST_PARAMS))):
        some = metrics[at * MOST_METRICS : (at + 1) * MOST_METRICS]
        server.ask("log_batch", run_id, some, params[at * MOST_PARAMS : (at + 1) * MOST_PARAMS], synchronous=True)


def step(row: Mapping[str, Any], figures: Mapping[str, float]) -> list[Any]:
    """Numbers as metrics of this round."""
    from mlflow.entities import Metric

    at = milliseconds(row["started_at"])
    return [Metric(allowed(name), value, at, row["batch_id"]) for name, value in figures.items()]


def allowed(name: str) -> str:
    """A metric's or parameter's name as MLflow takes it: one that it refuses would stop every later delivery."""
    return re.sub(r"[^\w\-. :]", "_", name)[:LONGEST_NAME]


def parameters(config: Config, row: Mapping[str, Any]) -> dict[str, str]:
    """The recipe that the round was fitted by, as far as it is still the configuration's; a batch's data versions."""
    said = {"recipe_id": str(row["recipe_id"])}
    recipe = Recipe.of(config)
    if row["recipe_id"] == recipe.recipe_id:
        said |= {"estimator": recipe.estimator, "loss": recipe.loss, "features": ", ".join(config.fleet.features)}
        said |= {f"estimator.{name}": text for name, text in recipe.params}
        said |= {name: str(getattr(recipe, name)) for name in ("min_rows", "window_rows", "window")}
        said |= {f"library.{name}": version for name, version in recipe.versions}
    if row["kind"] == RoundKind.BATCH.value:
        said |= {f"version.{_table(name)}": str(version) for name, version in _json(row["pins"]).items()}
    return said


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """A round's numbers; what is null is not a number. A stream's data versions are among them: they grow by step."""
    found = {name: float(row[name]) for name in FIGURES if row[name] is not None}
    found |= {f"seconds.{stage}": float(took) for stage, took in _json(row["seconds"]).items()}
    found |= {f"reason.{name}": float(count) for name, count in _json(row["reasons"]).items()}
    if row["kind"] == RoundKind.STREAM.value:
        found |= {f"version.{_table(name)}": float(version) for name, version in _json(row["pins"]).items()}
    return found


def write_files(config: Config, row: Mapping[str, Any], folder: Path) -> None:
    """What there is of a weekly batch beyond its numbers: every group, the round with its recipe, the figures."""
    groups = attempts.of_round(config, row)
    pq.write_table(groups, folder / GROUPS_FILE, compression="zstd")
    said = {**row, **{name: _json(row[name]) for name in ("reasons", "seconds", "pins")}}
    recipe = Recipe.of(config)
    if row["recipe_id"] == recipe.recipe_id:
        said["recipe"] = json.loads(canonical(asdict(recipe)))
    (folder / ROUND_FILE).write_text(json.dumps(said, indent=1, default=str), encoding="utf-8")
    title = f"{config.fleet.name}, {row['round_id']}, {row['started_at']:%Y-%m-%d %H:%M} UTC"
    drawn = figures.draw(groups, title=title, loss=config.fleet.loss, target=config.fleet.target)
    for name, png in drawn.items():
        (folder / name).write_bytes(png)


def _table(directory: str) -> str:
    return directory.replace("/", ".")


def _json(text: str | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text or "{}")
    return found
