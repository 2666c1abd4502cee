"""A trial as text: the lines that the command prints, its JSON, and the rows with the largest errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spinney.local.trial.fit import Trial
from spinney.local.trial.plots import compare_with_constant, describe_losses, format_number, group_title


def summary_lines(trial: Trial) -> Iterator[tuple[str, str]]:
    """Yield (term, text); a line that continues the one before has an empty term."""
    recipe = trial.recipe
    given = ", ".join(f"{key} = {value}" for key, value in recipe.params if key != "candidates")
    yield "group", group_title(trial)
    yield "target", recipe.target.name
    yield "recipe", f"{recipe.estimator} {{ {given} }}" if given else recipe.estimator
    yield "rows", f"{trial.rows:,} of {trial.source}, {_day(trial.trained_from)} to {_day(trial.trained_through)}"
    if trial.left_out:
        yield "left out", ", ".join(f"{rows:,} {reason}" for reason, rows in trial.left_out.items())
    yield "loss", describe_losses(trial)
    if comparison := compare_with_constant(trial):
        yield "", comparison
    if trial.chosen is not None:
        scores = ", ".join(f"{name} {format_number(score)}" for name, score in trial.candidates.items())
        yield "chosen", f"{trial.chosen} for the model on all rows, by the newest fifth: {scores}"
    if recipe.task == "regression" and trial.heldout_rows:
        yield "residual", f"mean {format_number(mean_residual(trial))} held out: actual minus predicted"
    details = f"{trial.codec}, {trial.payload_bytes:,} bytes, {trial.fit_ms:.1f} ms to fit"
    yield "model", f"{trial.model_id[:12]} on all rows: {details}"


def mean_residual(trial: Trial) -> float:
    """Return the mean of actual minus predicted values over the held-out rows."""
    held = trial.points[trial.points["heldout"]]
    return float((held["actual"] - held["predicted"]).mean())


def to_json(trial: Trial, files: dict[str, str]) -> dict[str, Any]:
    """Return the trial as plain values for `--json`, numbers unrounded. files: kind -> path of what was written."""
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


def worst_rows(trial: Trial, count: int) -> list[dict[str, Any]]:
    """Return the `count` held-out rows with the largest losses, the largest first."""
    held = trial.points[trial.points["heldout"]].sort_values("loss", ascending=False, kind="stable")
    return [{str(name): value for name, value in row.items()} for row in held.head(count).to_dict("records")]


def _day(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
