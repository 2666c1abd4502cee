"""Report rounds to MLflow: the numbers of a round as a step of a run, and the groups of a weekly batch as files."""

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
from spinney.core.recipes.recipe import Recipe, canonical_json
from spinney.storage.layout import FleetStore
from spinney.tables import unverified_recipes
from spinney.tracking import round_attempts, round_losses
from spinney.tracking.mlflow_client import DeliveryClient
from spinney.tracking.runs import RECIPE, THROUGH, Run, to_milliseconds

COUNTS = (
    "groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred", "promoted", "unproven", "refused", "held",
    "withdrawn",
)  # fmt: skip
FIGURES = (*COUNTS, "predicted_seconds", "mean_champion_loss", "mean_challenger_loss")

GROUPS_FILE, ROUND_FILE = "groups.parquet", "round.json"

LONGEST_NAME = 250
MOST_METRICS, MOST_PARAMS = 900, 100
"""Maximum metrics and parameters of one `log_batch`, which takes a thousand in all."""


_OF_STREAM = "stream "
"""Prefix of the name of a stream's run, before its day."""


def rounds_by_run(
    rounds: Iterable[Mapping[str, Any]], known: Mapping[str, Run] = MappingProxyType({})
) -> dict[str, list[Mapping[str, Any]]]:
    """Return run name -> its rounds, oldest first. A batch is one run; a stream's rounds are divided by the day of
    their start and by recipe.

    Parameters in MLflow cannot be changed, so an edited recipe starts another run on the same day, named by its first
    batch. known: the existing runs, by name.
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
    """Return the name of the run that a stream's next round may continue; empty if there is none.

    named: the names of the newest rounds' runs, in order.
    """
    of_stream = [name for name in named if kind_of(name) == RoundKind.STREAM]
    return of_stream[-1] if of_stream else _newest_of_stream(runs)[0]


def _newest_of_stream(known: Mapping[str, Run]) -> tuple[str, str | None]:
    """Return name and recipe of the run that a stream's next round may continue; an empty name: examine all rounds
    again.
    """
    of_stream = {name: run for name, run in known.items() if kind_of(name) == RoundKind.STREAM and not run.deleted}
    if not of_stream or any(run.through < 0 for run in of_stream.values()):
        return "", None
    name = max(of_stream, key=lambda name: of_stream[name].through)
    return name, of_stream[name].recipe_id


def kind_of(name: str) -> RoundKind:
    """Return the kind of the rounds in the run of this name."""
    return RoundKind.STREAM if name.startswith(_OF_STREAM) else RoundKind.BATCH


def is_over(name: str) -> bool:
    """Whether the run of this name is complete: a batch's after its round, a stream's after its day."""
    return kind_of(name) == RoundKind.BATCH or date.fromisoformat(name.removeprefix(_OF_STREAM)[:10]) < today()


def today() -> date:
    """Return the current date in UTC."""
    return datetime.now(UTC).date()


def report_rounds(
    server: DeliveryClient, store: FleetStore, current: Recipe, run: Run, fresh: Sequence[Mapping[str, Any]]
) -> None:
    """Log these rounds of one run, then the tag that records their delivery. current: the configuration's recipe."""
    measured, gained = round_losses.losses_of_rounds(store, fresh), round_losses.gains_of_rounds(store, fresh)
    metrics = []
    for row in fresh:
        of_round = measured.get(row["round_id"], {}) | gained.get(row["round_id"], {})
        metrics += round_metrics(row, round_numbers(row) | of_round)
    fitted = next((row for row in fresh if row["recipe_id"]), fresh[0])
    log_batch(
        server,
        run.run_id,
        parameters(store, current, fitted) if run.through < 0 or run.recipe_id is None else {},
        metrics,
    )
    if run.recipe_id is None and fitted["recipe_id"]:  # its first rounds fitted nothing
        server.ask("set_tag", run.run_id, RECIPE, fitted["recipe_id"])
    for row in fresh:
        if row["kind"] == RoundKind.BATCH.value:
            with tempfile.TemporaryDirectory() as folder:
                write_files(store, current, row, Path(folder))
                server.upload(run.run_id, Path(folder))
    # The tag is set last: if the process is killed before, the next delivery logs the same steps and files again, which
    # changes nothing.
    server.ask("set_tag", run.run_id, THROUGH, str(max(row["batch_id"] for row in fresh)))


def log_batch(server: DeliveryClient, run_id: str, parameters: Mapping[str, str], metrics: Sequence[Any]) -> None:
    """Log metrics and parameters in as few calls as possible, usually one."""
    from mlflow.entities import Param

    params = [
        Param(name, value) for name, value in {mlflow_name(name): text for name, text in parameters.items()}.items()
    ]
    for at in range(max(math.ceil(len(metrics) / MOST_METRICS), math.ceil(len(params) / MOST_PARAMS))):
        some = metrics[at * MOST_METRICS : (at + 1) * MOST_METRICS]
        server.ask("log_batch", run_id, some, params[at * MOST_PARAMS : (at + 1) * MOST_PARAMS], synchronous=True)


def round_metrics(row: Mapping[str, Any], figures: Mapping[str, float]) -> list[Any]:
    """Return numbers as MLflow metrics of this round."""
    from mlflow.entities import Metric

    at = to_milliseconds(row["started_at"])
    return [Metric(mlflow_name(name), value, at, row["batch_id"]) for name, value in figures.items()]


def mlflow_name(name: str) -> str:
    """Return a metric's or parameter's name that MLflow accepts: a refused name would stop every later delivery."""
    return re.sub(r"[^\w\-. :]", "_", name)[:LONGEST_NAME]


def parameters(store: FleetStore, current: Recipe, row: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a run: the recipe of the round, as far as it is known, and a batch's data versions."""
    found = {"recipe_id": str(row["recipe_id"])} if row["recipe_id"] else {}
    if recipe := _recipe(store, current, row["recipe_id"]):
        found |= {"estimator": recipe.estimator, "loss": recipe.loss}
        found |= {"features": ", ".join(feature.name for feature in recipe.features)}
        found |= {f"estimator.{name}": text for name, text in recipe.params}
        found |= {name: str(getattr(recipe, name)) for name in ("min_rows", "window_rows", "window")}
        found |= {f"library.{name}": version for name, version in recipe.versions}
    if row["kind"] == RoundKind.BATCH.value:
        found |= {f"version.{_table(name)}": str(version) for name, version in _json(row["pins"]).items()}
    return found


def _recipe(store: FleetStore, current: Recipe, recipe_id: str | None) -> Recipe | None:
    """Return the recipe with this id: the configuration's, or a stored earlier one. current: the configuration's."""
    if recipe_id is None or recipe_id == current.recipe_id:
        return None if recipe_id is None else current
    text = unverified_recipes.read_recipe_text(store, recipe_id)
    return None if text is None else Recipe.of_text(text)


def round_numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return a round's numbers that are not null.

    For a stream they include data versions, which differ from step to step.
    """
    found = {name: float(row[name]) for name in FIGURES if row[name] is not None}
    found |= {f"seconds.{stage}": float(seconds) for stage, seconds in _json(row["seconds"]).items()}
    found |= {f"reason.{name}": float(count) for name, count in _json(row["reasons"]).items()}
    if row["kind"] == RoundKind.STREAM.value:
        found |= {f"version.{_table(name)}": float(version) for name, version in _json(row["pins"]).items()}
    return found


def write_files(store: FleetStore, current: Recipe, row: Mapping[str, Any], folder: Path) -> None:
    """Write the files of a weekly batch: a table of every group, the round with its recipe, and the charts."""
    from spinney.tracking import plots  # imports Matplotlib, 0.5 s: only when charts are drawn

    groups = round_attempts.attempts_of_round(store, row)
    pq.write_table(groups, folder / GROUPS_FILE, compression="zstd")
    content = {**row, **{name: _json(row[name]) for name in ("reasons", "seconds", "pins")}}
    recipe = _recipe(store, current, row["recipe_id"])
    if recipe is not None:
        content["recipe"] = json.loads(canonical_json(asdict(recipe)))
        del content["recipe"]["earlier"]
    (folder / ROUND_FILE).write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
    title = f"{store.fleet.name}, {row['round_id']}, {row['started_at']:%Y-%m-%d %H:%M} UTC"
    # That of the round: the fleet's may have changed before the round was delivered.
    loss = store.fleet.loss if recipe is None else recipe.loss
    drawn = plots.draw(groups, title=title, loss=loss, target=store.fleet.target)
    for name, png in drawn.items():
        (folder / name).write_bytes(png)


def _table(directory: str) -> str:
    return directory.replace("/", ".")


def _json(text: str | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text or "{}")
    return found
