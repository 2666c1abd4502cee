"""A trial in words and numbers: what the command prints, and its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spinney.core.reporting.units import plain
from spinney.local.trial.fit import Trial
from spinney.local.trial.pictures import amount, beaten, headline, title


def lines(trial: Trial) -> Iterator[tuple[str, str]]:
    """What to say of it, each with a word in front."""
    recipe = trial.recipe
    name, unit = plain(recipe.target.name)
    given = ", ".join(f"{key} = {value}" for key, value in recipe.params if key != "candidates")
    yield "group", title(trial)
    yield "target", f"{name}{f', {unit}' if unit else ''}"
    yield "recipe", f"{recipe.estimator} {{ {given} }}" if given else recipe.estimator
    yield "rows", f"{trial.rows:,} of {trial.source}, {_day(trial.trained_from)} to {_day(trial.trained_through)}"
    if trial.left_out:
        yield "left out", ", ".join(f"{rows:,} {why}" for why, rows in trial.left_out.items())
    yield "loss", headline(trial)
    if said := beaten(trial):
        yield "", said
    if trial.chosen is not None:
        scores = ", ".join(f"{name} {amount(score)}" for name, score in trial.candidates.items())
        yield "chosen", f"{trial.chosen} for the model on all rows, by the newest fifth: {scores}"
    if recipe.task == "regression" and trial.heldout_rows:
        yield "residual", f"mean {amount(residual(trial), unit)} held out: actual less predicted"
    of_all = f"{trial.codec}, {trial.payload_bytes:,} bytes, {trial.fit_ms:.1f} ms to fit"
    yield "model", f"{trial.model_id[:12]} on all rows: {of_all}"


def residual(trial: Trial) -> float:
    """Mean of actual less predicted, held out."""
    held = trial.points[trial.points["heldout"]]
    return float((held["actual"] - held["predicted"]).mean())


def document(trial: Trial, files: dict[str, str]) -> dict[str, Any]:
    """The trial as JSON knows it: numbers whole, times ISO 8601. files: what was written, by kind."""
    losses, recipe = trial.losses, trial.recipe
    return {
        "group_key": trial.group_key,
        "target": recipe.target.name,
        "task": recipe.task,
        "recipe": {
            "estimator": recipe.estimator,
            "params": recipe.arguments,
            "features": [feature.name for feature in recipe.features],
            "recipe_id": recipe.recipe_id,
        },
        "source": trial.source,
        "clock": trial.clock,
        "rows": trial.rows,
        "heldout_rows": trial.heldout_rows,
        "left_out": dict(trial.left_out),
        "trained_from": trial.trained_from,
        "trained_through": trial.trained_through,
        "loss": recipe.loss,
        "heldout_loss": losses.heldout,
        "train_loss": losses.train,
        "constant_loss": losses.constant,
        "chosen": trial.chosen,
        "candidates": dict(trial.candidates),
        "model": {
            "model_id": trial.model_id,
            "codec": trial.codec,
            "payload_bytes": trial.payload_bytes,
            "fit_ms": trial.fit_ms,
        },
        "files": files,
    }


def worst(trial: Trial, count: int) -> list[dict[str, Any]]:
    """The held-out rows that the model got most wrong, the worst first: as the page lists them."""
    held = trial.points[trial.points["heldout"]].sort_values("loss", ascending=False, kind="stable")
    return [{str(name): value for name, value in row.items()} for row in held.head(count).to_dict("records")]


def _day(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
