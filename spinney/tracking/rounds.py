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
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq

from schemas.vocabulary import RoundKind
from spinney.core.config import Config
from spinney.core.recipes.recipe import Recipe, canonical_json
from spinney.storage.layout import FleetStore
from spinney.tables import recipe_names
from spinney.tracking import attempts, losses, plots
from spinney.tracking.runs import RECIPE, THROUGH, Run, to_milliseconds
from spinney.tracking.server import Server

COUNTS = (
    "groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred", "promoted", "unproven", "refused", "held",
    "withdrawn",
)  # fmt: skip
FIGURES = (*COUNTS, "predicted_seconds", "mean_champion_loss", "mean_challenger_loss")

GROUPS_FILE, ROUND_FILE = "groups.parquet", "round.json"

LONGEST_NAME = 250
MOST_METRICS, MOST_PARAMS = 900, 100
"""What one `log_batch` may carry: a thousand in all."""


_OF_STREAM = "stream "
"""What the name of a stream's run begins with, before its day."""


def rounds_by_run(
    rounds: Iterable[Mapping[str, Any]], known: Mapping[str, Run] = MappingProxyType({})
) -> dict[str, list[Mapping[str, Any]]]:
    """The rounds of each run, oldest first: a batch's each alone, a stream's by the day they began and by recipe.

    A parameter in MLflow is never changed, so an edited recipe begins another run of the same day, named by its first
    batch. known: the runs that there are, by name.
    """
    runs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    name, recipe_id = _newest_of_stream(known)
    for row in sorted(rounds, key=lambda row: row["started_at"]):
        if row["kind"] != RoundKind.STREAM.value:
            runs[row["round_id"]].append(row)
            continue
        day, row_recipe = f"{_OF_STREAM}{row['started_at']:%Y-%m-%d}", row.get("recipe_id")
        if not name.startswith(day):
            name, recipe_id = day, row_recipe
        elif row_recipe and recipe_id and row_recipe != recipe_id:
            name, recipe_id = f"{day} from {row['batch_id']}", row_recipe
        recipe_id = recipe_id or row_recipe
        runs[name].append(row)
    return runs


def newest_of_stream(runs: Mapping[str, Run], named: Iterable[str]) -> str:
    """The name of the run that a stream's next round may go on with. named: the runs of the newest rounds, in order."""
    of_stream = [name for name in named if kind_of(name) == RoundKind.STREAM]
    return of_stream[-1] if of_stream else _newest_of_stream(runs)[0]


def _newest_of_stream(known: Mapping[str, Run]) -> tuple[str, str | None]:
    """The name and recipe of the run that a stream's next round may go on with; none where all are looked at anew."""
    of_stream = {name: run for name, run in known.items() if kind_of(name) == RoundKind.STREAM and not run.deleted}
    if not of_stream or any(run.through < 0 for run in of_stream.values()):
        return "", None
    name = max(of_stream, key=lambda each: of_stream[each].through)
    return name, of_stream[name].recipe_id


def kind_of(name: str) -> RoundKind:
    """Whose rounds stand in the run of this name."""
    return RoundKind.STREAM if name.startswith(_OF_STREAM) else RoundKind.BATCH


def is_over(name: str) -> bool:
    """Whether no round can come to the run of this name: to a batch's at once, to a stream's when its day is over."""
    return kind_of(name) == RoundKind.BATCH or date.fromisoformat(name.removeprefix(_OF_STREAM)[:10]) < today()


def today() -> date:
    """Return the current date in UTC."""
    return datetime.now(UTC).date()


def report_rounds(server: Server, config: Config, run: Run, fresh: Sequence[Mapping[str, Any]]) -> None:
    """Log these rounds of one run, and then that they are."""
    store = FleetStore.of(config)
    measured, gained = losses.losses_of_rounds(store, fresh), losses.gains_of_rounds(store, fresh)
    metrics = []
    for row in fresh:
        of_round = measured.get(row["round_id"], {}) | gained.get(row["round_id"], {})
        metrics += round_metrics(row, round_numbers(row) | of_round)
    fitted = next((row for row in fresh if row["recipe_id"]), fresh[0])
    log_batch(
        server, run.run_id, parameters(config, fitted) if run.through < 0 or run.recipe_id is None else {}, metrics
    )
    if run.recipe_id is None and fitted["recipe_id"]:  # its first rounds had fitted nothing
        server.ask("set_tag", run.run_id, RECIPE, fitted["recipe_id"])
    for row in fresh:
        if row["kind"] == RoundKind.BATCH.value:
            with tempfile.TemporaryDirectory() as folder:
                write_files(config, row, Path(folder))
                server.upload(run.run_id, Path(folder))
    # Last: a deliverer that dies before this logs the same steps and files again, which changes nothing.
    server.ask("set_tag", run.run_id, THROUGH, str(max(row["batch_id"] for row in fresh)))


def log_batch(server: Server, run_id: str, parameters: Mapping[str, str], metrics: Sequence[Any]) -> None:
    """As many calls as it takes, which is one for what there usually is."""
    from mlflow.entities import Param

    params = [
        Param(name, value) for name, value in {mlflow_name(name): text for name, text in parameters.items()}.items()
    ]
    for at in range(max(math.ceil(len(metrics) / MOST_METRICS), math.ceil(len(params) / MOST_PARAMS))):
        some = metrics[at * MOST_METRICS : (at + 1) * MOST_METRICS]
        server.ask("log_batch", run_id, some, params[at * MOST_PARAMS : (at + 1) * MOST_PARAMS], synchronous=True)


def round_metrics(row: Mapping[str, Any], figures: Mapping[str, float]) -> list[Any]:
    """Numbers as metrics of this round."""
    from mlflow.entities import Metric

    at = to_milliseconds(row["started_at"])
    return [Metric(mlflow_name(name), value, at, row["batch_id"]) for name, value in figures.items()]


def mlflow_name(name: str) -> str:
    """A metric's or parameter's name as MLflow takes it: one that it refuses would stop every later delivery."""
    return re.sub(r"[^\w\-. :]", "_", name)[:LONGEST_NAME]


def parameters(config: Config, row: Mapping[str, Any]) -> dict[str, str]:
    """The recipe that the round was fitted by, as far as it is known; a batch's data versions."""
    found = {"recipe_id": str(row["recipe_id"])} if row["recipe_id"] else {}
    if recipe := _recipe(config, row["recipe_id"]):
        found |= {"estimator": recipe.estimator, "loss": recipe.loss}
        found |= {"features": ", ".join(feature.name for feature in recipe.features)}
        found |= {f"estimator.{name}": text for name, text in recipe.params}
        found |= {name: str(getattr(recipe, name)) for name in ("min_rows", "window_rows", "window")}
        found |= {f"library.{name}": version for name, version in recipe.versions}
    if row["kind"] == RoundKind.BATCH.value:
        found |= {f"version.{_table(name)}": str(version) for name, version in _json(row["pins"]).items()}
    return found


def _recipe(config: Config, recipe_id: str | None) -> Recipe | None:
    """The configuration's, or an earlier one that is stored."""
    today = Recipe.of(config)
    if recipe_id is None or recipe_id == today.recipe_id:
        return None if recipe_id is None else today
    text = recipe_names.read_recipe_text(FleetStore.of(config), recipe_id)
    return None if text is None else Recipe.of_text(text)


def round_numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """A round's numbers; what is null is not a number. A stream's data versions are among them: they grow by step."""
    found = {name: float(row[name]) for name in FIGURES if row[name] is not None}
    found |= {f"seconds.{stage}": float(seconds) for stage, seconds in _json(row["seconds"]).items()}
    found |= {f"reason.{name}": float(count) for name, count in _json(row["reasons"]).items()}
    if row["kind"] == RoundKind.STREAM.value:
        found |= {f"version.{_table(name)}": float(version) for name, version in _json(row["pins"]).items()}
    return found


def write_files(config: Config, row: Mapping[str, Any], folder: Path) -> None:
    """What there is of a weekly batch beyond its numbers: every group, the round with its recipe, the figures."""
    groups = attempts.attempts_of_round(FleetStore.of(config), row)
    pq.write_table(groups, folder / GROUPS_FILE, compression="zstd")
    content = {**row, **{name: _json(row[name]) for name in ("reasons", "seconds", "pins")}}
    if recipe := _recipe(config, row["recipe_id"]):
        content["recipe"] = json.loads(canonical_json(asdict(recipe)))
        del content["recipe"]["earlier"]
    (folder / ROUND_FILE).write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
    title = f"{config.fleet.name}, {row['round_id']}, {row['started_at']:%Y-%m-%d %H:%M} UTC"
    drawn = plots.draw(groups, title=title, loss=config.fleet.loss, target=config.fleet.target)
    for name, png in drawn.items():
        (folder / name).write_bytes(png)


def _table(directory: str) -> str:
    return directory.replace("/", ".")


def _json(text: str | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text or "{}")
    return found
