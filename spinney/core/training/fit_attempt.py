"""One group's attempt to fit a model, from its fit request to its row of the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

import numpy as np
import pandas as pd

from schemas.vocabulary import Decision, ModelStatus
from spinney.core.errors import (
    MAX_ERROR_CHARACTERS,
    ContractError,
    Corrupt,
    FitFailed,
    GroupError,
    TimedOut,
    TooFewRows,
)
from spinney.core.features.encoding import NULL_TIME, Floats, Integers
from spinney.core.models import codec
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.display_name import IMPORTED_PREFIX
from spinney.core.recipes.recipe import Recipe
from spinney.core.training import champion_model, current_group
from spinney.core.training.comparisons.held_out_comparison import ChampionAnswers
from spinney.core.training.comparisons.held_out_rows import (
    HELD_OUT_ONE_IN,
    held_out_counts,
    recent_counts,
    unseen_counts,
)
from spinney.core.training.fit_kernels import KernelResult
from spinney.core.training.fit_request import FitRequest
from spinney.core.training.training_set import TrainingSet, select_training_set

NOTHING_NEWER = "no held-out row is newer than the champion"

DIFFERENCES = (
    "champion_difference", "champion_difference_se", "constant_difference", "constant_difference_se",
)  # fmt: skip
"""Metrics of the paired comparison with the champion and with a constant."""

COLUMNS = (
    "group_key",
    "status",
    "model_id",
    "parent_model_id",
    "recipe_id",
    "error_class",
    "error",
    "rows",
    "trained_from",
    "trained_through",
    "metrics",
    "heldout_losses",
    "training_predictions",
    "heldout_predictions",
    "prequential_losses",
    "codec",
    "payload",
    "signature",
    "fit_ms",
)


@dataclass
class FitAttempt:
    """The state of one group's fit; becomes one row of the result.

    group_index: its position in the TrainingSet. rows, heldout_rows: how many. signed_payload: codec, payload and
    signature. elapsed_ms: of its fits. compared_places, compared_losses: positions of the held-out rows that were
    compared, and the challenger's losses on them. reference_losses: those of its champion, or of the champion's recipe
    fitted again; NaN without a champion. champion_answers: to these rows, for regression. prior: the model of
    the group's parent, if they are pooled. measured_rows: number of newest rows on which the champion is measured: the
    held-out rows, and others that it has not seen. heldout_losses, heldout_predictions: as `sample_evenly` returns
    them; None if the challenger was not measured. prequential_losses: see `reference_losses`; None for classification
    too. training_predictions: see `spread_predictions`; None without a model.
    """

    request: FitRequest
    group_index: int
    rows: int
    heldout_rows: int = 0
    measured_rows: int = 0
    status: str = ModelStatus.FITTED
    model_id: str | None = None
    error: GroupError | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    model: Model | None = None
    signed_payload: tuple[str, bytes, bytes] | None = None
    elapsed_ms: float = 0.0
    prior: Model | None = None
    compared_places: Integers | None = None
    compared_losses: Floats | None = None
    reference_losses: Floats | None = None
    champion_answers: ChampionAnswers | None = None
    heldout_losses: Floats | None = None
    heldout_predictions: Floats | None = None
    prequential_losses: Floats | None = None
    training_predictions: Floats | None = None

    @property
    def prior_id(self) -> str | None:
        """The id of the parent's model that the group is pooled with."""
        return None if self.prior is None or self.request.parent is None else self.request.parent.champion_id

    @property
    def has_estimated_prior(self) -> bool:
        """Whether it is pooled with its parent's model by estimated weights."""
        return self.prior is not None and self.prior.estimator.group_variances is not None

    def fail(self, error: GroupError) -> None:
        """Record an error; its class determines the status."""
        statuses = {TooFewRows: ModelStatus.TOO_FEW_ROWS, TimedOut: ModelStatus.TIMED_OUT}
        self.status = statuses.get(type(error), ModelStatus.FAILED)
        self.error, self.model_id, self.model, self.signed_payload = error, None, None, None
        self.heldout_losses = self.heldout_predictions = self.training_predictions = self.prequential_losses = None

    def refuse_comparison(self, why: str, *, refit_failed: bool) -> None:
        """Record why the champion, or its recipe fitted again, is not compared."""
        self.metrics["champion_error"] = why[:MAX_ERROR_CHARACTERS]
        if known := self.metrics.get("uncompared"):
            known["refit_failed"] |= refit_failed
            known["why"] = self.metrics["champion_error"]


def start_attempt(
    request: FitRequest,
    group_index: int,
    training_set: TrainingSet,
    recipe: Recipe,
    signer: Signer,
    prior: Model | FitFailed | None = None,
) -> FitAttempt:
    """Start the attempt of a request: check the number of rows, compute the model's id, decide whether to fit.

    group_index: the group's position in `training_set`. prior: the model of the group's parent, if they are pooled; an
    error if it is not known, which fails the attempt. The prior's id is part of the group's model_id, so that the same
    rows with another prior give another model. Which rows are held out is decided by `hold_out_rows`.
    """
    rows = int(training_set.starts[group_index + 1] - training_set.starts[group_index])
    attempt = FitAttempt(request, group_index, rows, prior=prior if isinstance(prior, Model) else None)
    if rows < max(1, recipe.min_rows):
        attempt.fail(TooFewRows(request.group_key, rows, max(1, recipe.min_rows)))
        return attempt
    if isinstance(prior, FitFailed):
        attempt.fail(prior)
        return attempt
    fingerprint = training_set.fingerprint(group_index)
    attempt.model_id = model_id_of(request.group_key, fingerprint, recipe.recipe_id, attempt.prior_id)
    if attempt.model_id == request.champion_id and _has_valid_signature(request, signer):
        attempt.status = Decision.KEPT
        return attempt
    measured = ("challenger_loss", "champion_loss", "constant_loss", *DIFFERENCES, "jump", "train_loss")
    attempt.metrics = {"heldout_rows": 0, "champion_id": request.champion_id, **dict.fromkeys(measured)}
    if request.recipe_id not in (None, recipe.recipe_id):
        attempt.metrics["changed_from"] = request.recipe_id
        if _is_kept_if_uncompared(request, signer):
            attempt.metrics["uncompared"] = {"why": NOTHING_NEWER, "refit_failed": False}
    return attempt


def hold_out_rows(attempts: Sequence[FitAttempt], training_set: TrainingSet, recipe: Recipe) -> None:
    """Decide, in place, how many rows of each attempt are held out, and on how many rows its champion is measured.

    attempts: one per group of the training set, in its order.
    """
    rows = np.diff(training_set.starts)
    group_of_row = np.repeat(np.arange(len(rows)), rows)
    unseen = unseen_counts(group_of_row, training_set.times, [attempt.request for attempt in attempts])
    recent = recent_counts(group_of_row, training_set.times, len(rows), recipe.weight_half_life)
    # The recipe of such a champion is fitted again on the older rows, so it needs no rows of its own.
    earlier = dict(recipe.earlier)
    is_refitted = np.array([attempt.request.recipe_id in earlier for attempt in attempts], dtype=np.bool_)
    counts = held_out_counts(rows, np.where(is_refitted, 0, unseen), recent)
    measured = np.maximum(counts, np.minimum(unseen, rows // HELD_OUT_ONE_IN))
    for attempt, heldout, newest in zip(attempts, counts.tolist(), measured.tolist(), strict=True):
        attempt.heldout_rows = heldout
        attempt.measured_rows = heldout if "changed_from" in attempt.metrics else newest


def heldout_begins(attempts: Sequence[FitAttempt], training_set: TrainingSet) -> Integers:
    """Return the position of the oldest held-out row of each attempt, shape (n_attempts,)."""
    stops: Integers = training_set.starts[[attempt.group_index + 1 for attempt in attempts]]
    return stops - np.array([attempt.heldout_rows for attempt in attempts], dtype=np.int64)


def reporter(attempts: Sequence[FitAttempt], activity: str) -> Callable[[int], None]:
    """Return a function that reports, by its index, which attempt's group is being worked on."""
    return lambda index: current_group.report(attempts[index].request.group_key, activity)


def model_id_of(group_key: str, fingerprint: str, recipe_id: str, parent_model_id: str | None = None) -> str:
    """Return the SHA-256, in hex, of the arguments: equal in every process for the same group, rows and recipe."""
    parent = "null" if parent_model_id is None else quoted(parent_model_id)
    # A JSON list written by hand: json.dumps sets up an encoder for each call, which takes longer than the digest.
    text = f"[{quoted(group_key)}, {quoted(fingerprint)}, {quoted(recipe_id)}, {parent}]"
    return hashlib.sha256(text.encode()).hexdigest()


def is_pending(attempt: FitAttempt) -> bool:
    """Whether the group is still to be fitted: it has not failed and was not kept."""
    return attempt.status == ModelStatus.FITTED


def apply_kernel_result(attempt: FitAttempt, result: KernelResult) -> None:
    """Add a kernel's result to an attempt."""
    attempt.elapsed_ms += result.ms
    attempt.model = result.model
    attempt.metrics |= result.scores
    if result.model is None:
        attempt.fail(FitFailed.of(attempt.request.group_key, result.error or RuntimeError("the kernel gave no model")))


def _is_kept_if_uncompared(request: FitRequest, signer: Signer) -> bool:
    """Whether a champion of another recipe is kept if it cannot be compared.

    Not if its signature does not verify, nor if it is imported without `trained_through`: it could never be compared,
    so it is only used until a model is fitted.
    """
    is_imported = str(request.recipe_id).startswith(IMPORTED_PREFIX)
    return not (is_imported and request.trained_through == NULL_TIME) and _has_valid_signature(request, signer)


def _has_valid_signature(request: FitRequest, signer: Signer) -> bool:
    """Whether the champion can be served. If its signing key was lost, it is fitted again even on the same rows."""
    try:
        claim, payload = champion_model.champion_claim(request)
        signer.verify(claim, payload, request.signature)
    except Corrupt:
        return False
    return True


def sign_model(attempt: FitAttempt, signer: Signer) -> None:
    """Serialize and sign the attempt's model. The attempt fails if no codec can store it."""
    key = attempt.request.group_key
    if attempt.model is None or attempt.model_id is None:
        raise AssertionError(f"group {key} is fitted without a model")
    current_group.report(key, current_group.STORE)
    try:
        name, payload = codec.dump(attempt.model)
    except ContractError as error:
        attempt.fail(FitFailed.of(key, error))
        return
    claim = Claim(key, attempt.model_id, name)
    attempt.signed_payload = (name, payload, signer.sign(claim, payload))


def results_frame(attempts: Sequence[FitAttempt], training_set: TrainingSet, recipe: Recipe) -> pd.DataFrame:
    """Return a frame with COLUMNS and a row per attempt."""
    times, starts = training_set.times, training_set.starts
    signed_payload: list[tuple[str | None, bytes | None, bytes | None]] = [
        a.signed_payload or (None, None, None) for a in attempts
    ]
    errors = [_error_class_and_text(attempt.error) for attempt in attempts]
    first = [int(times[starts[a.group_index]]) if a.rows else NULL_TIME for a in attempts]
    last = [int(times[starts[a.group_index + 1] - 1]) if a.rows else NULL_TIME for a in attempts]
    values: Mapping[str, Any] = {
        "group_key": [a.request.group_key for a in attempts],
        "status": [str(a.status) for a in attempts],
        "model_id": [a.model_id for a in attempts],
        "parent_model_id": [None if a.model_id is None else a.prior_id for a in attempts],
        "recipe_id": [recipe.recipe_id] * len(attempts),
        "error_class": [error_class for error_class, _ in errors],
        "error": [text for _, text in errors],
        "rows": np.array([a.rows for a in attempts], dtype=np.int64),
        "trained_from": _timestamps(first),
        "trained_through": _timestamps(last),
        "metrics": [json.dumps(a.metrics) for a in attempts],
        "heldout_losses": [_listed(a.heldout_losses) for a in attempts],
        "training_predictions": [_listed(a.training_predictions) for a in attempts],
        "heldout_predictions": [_listed(a.heldout_predictions) for a in attempts],
        "prequential_losses": [_listed(a.prequential_losses) for a in attempts],
        "codec": [name for name, _, _ in signed_payload],
        "payload": [payload for _, payload, _ in signed_payload],
        "signature": [signature for _, _, signature in signed_payload],
        "fit_ms": np.array([a.elapsed_ms for a in attempts], dtype=np.float64),
    }
    objects = {name: pd.Series(list(of), dtype=object) for name, of in values.items() if isinstance(of, list)}
    return pd.DataFrame({**values, **objects}, columns=list(COLUMNS))


def failed_result(
    rows: pd.DataFrame, error: GroupError, recipe: Recipe, clock: datetime, elapsed_ms: float
) -> pd.DataFrame:
    """Return the row of a group whose fit killed its process. rows: as in `fit_groups`."""
    training_set = select_training_set(rows, [error.group_key], recipe, clock)
    attempt = FitAttempt(
        FitRequest(error.group_key, None, None, None, None, NULL_TIME),
        0,
        len(training_set.times),
        elapsed_ms=elapsed_ms,
    )
    attempt.fail(error)
    return results_frame([attempt], training_set, recipe)


def _listed(values: Floats | None) -> list[float] | None:
    return None if values is None else values.tolist()


def _error_class_and_text(error: GroupError | None) -> tuple[str | None, str | None]:
    if isinstance(error, FitFailed):
        return error.error_class, error.error
    return (None, None) if error is None else (type(error).__name__, str(error)[:MAX_ERROR_CHARACTERS])


def _timestamps(microseconds_: Sequence[int]) -> pd.Series[Any]:
    stamps = np.array(microseconds_, dtype=np.int64).astype("datetime64[us]")
    return pd.Series(stamps).dt.tz_localize("UTC")
