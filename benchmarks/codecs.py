"""The cost of a stored model: bytes, and milliseconds to write, to sign and verify, and to read it, per group.

Each line of the result is a built-in estimator stored by one codec of Spinney. (`pickle` must be allowed in the
configuration.) It is compared with plain `pickle` and with `joblib` (zlib) of the same scikit-learn estimator, timed in
turn; `seasonal` has no scikit-learn estimator, so its arrays are pickled. Estimators stored as `sklearn-arrays` are
also compared with `skops`, the codec for estimators that `sklearn-arrays` does not support. The peers store neither
signature nor features.

A ratio is Spinney divided by the peer: below 1 Spinney is smaller or faster. Reading includes checking the signature.
Run: ``python benchmarks/codecs.py --groups 3 --rows 200 --features 8``, with ``--json`` for all figures.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import median
from typing import Any

import joblib
import numpy as np
import pandas as pd
from kernels import SIGNER, START, fleet, peer
from sklearn.dummy import DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.features.encoding import to_columns
from spinney.core.models import codec, skops_codec
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training.fitting import fit_groups

CANDIDATES = '[{"estimator": "ridge"}, {"estimator": "seasonal"}]'


@dataclass(frozen=True)
class Case:
    """An estimator by its name in a fleet. peer: the same in scikit-learn, unfitted; None: the model has it."""

    estimator: str
    task: str = "regression"
    params: tuple[tuple[str, str], ...] = ()
    clock: bool = False
    peer: Callable[[], Any] | None = None


CASES = (
    Case("ridge", peer=lambda: peer(1.0)),
    Case(
        "logistic_regression",
        "classification",
        peer=lambda: make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000)),
    ),
    Case("seasonal", clock=True),
    Case("constant", peer=DummyRegressor),
    # Stored as what it chose: of these rows, which follow no clock, `ridge`.
    Case("best_of", params=(("candidates", CANDIDATES),), clock=True, peer=lambda: peer(1.0)),
    Case("kernels:scaled_ridge"),
    Case("hist_gradient_boosting"),
    Case("random_forest"),
)


@dataclass(frozen=True)
class Stored:
    """A group's model as stored by one codec, and the estimator that the peers write."""

    claim: Claim
    model: Model
    payload: bytes
    signature: bytes
    estimator: Any

    @property
    def allow_pickle(self) -> bool:
        """Whether the codec is pickle."""
        return self.claim.codec == codec.PICKLE


@dataclass(frozen=True)
class Peer:
    """Another way to write an estimator."""

    dump: Callable[[Any], bytes]
    load: Callable[[bytes], Any]


def joblib_bytes(estimator: Any) -> bytes:
    """Return an estimator as joblib writes it, compressed."""
    out = io.BytesIO()
    joblib.dump(estimator, out, compress=("zlib", 6))
    return out.getvalue()


PEERS = {
    "pickle": Peer(lambda estimator: pickle.dumps(estimator, protocol=5), pickle.loads),
    "joblib": Peer(joblib_bytes, lambda blob: joblib.load(io.BytesIO(blob))),
}
SKOPS = {"skops": Peer(skops_codec.pack, skops_codec.unpack)}


def peers_of(kept: list[Stored]) -> dict[str, Peer]:
    """Return the other ways to write these models."""
    return PEERS | SKOPS if kept[0].claim.codec == codec.ARRAYS else PEERS


def recipe_of(case: Case, base: Recipe, frame: pd.DataFrame) -> tuple[Recipe, pd.DataFrame]:
    """Return the recipe, and rows with labels for its task."""
    features = (*base.features, Feature("event_time", "timestamp")) if case.clock else base.features
    recipe = replace(base, estimator=case.estimator, params=case.params, task=case.task, features=features)
    if case.task == "regression":
        return recipe, frame
    late = frame.assign(label=np.where(frame["label"] > 0, "late", "early"))
    return replace(recipe, target=Feature("label", "string"), loss="log"), late


def stored_by(case: Case, base: Recipe, frame: pd.DataFrame) -> Iterator[list[Stored]]:
    """Fit every group once. Returns its model under each codec that can store it."""
    recipe, rows = recipe_of(case, base, frame)
    requests = pd.DataFrame({"group_key": rows["group_key"].unique()})
    fitted = fit_groups(rows, requests, recipe, START + timedelta(days=30), SIGNER)
    if set(fitted["status"]) != {"fitted"}:
        raise SystemExit(f"{case.estimator}: not every group was fitted: {fitted['error'].dropna().tolist()[:1]}")
    models = [codec.load(name, payload) for name, payload in zip(fitted["codec"], fitted["payload"], strict=True)]
    by_group = dict(list(rows.groupby("group_key")))
    estimators = [peer_of(case, model, by_group[key]) for key, model in zip(requests["group_key"], models, strict=True)]
    ours = list(zip(requests["group_key"], fitted["model_id"], models, estimators, strict=True))
    for allowed in (False, True) if codec.ARRAYS in set(fitted["codec"]) else (False,):
        kept = [store(group, name, model, held, allow_pickle=allowed) for group, name, model, held in ours]
        for stored in kept:
            compare(stored, by_group[stored.claim.group_key])
        yield kept


def peer_of(case: Case, model: Model, rows: pd.DataFrame) -> Any:
    """Return what the peers store: the model's own estimator, or the case's peer fitted on the same rows."""
    if case.peer is None:
        return model.estimator
    matrix = model.encoder.matrix(to_columns(rows, model.encoder.features))
    return case.peer().fit(matrix, rows["label"].to_numpy())


def store(group: str, model_id: str, model: Model, estimator: Any, *, allow_pickle: bool) -> Stored:
    """Store a model by its codec and sign it."""
    name, payload = codec.dump(model, allow_pickle=allow_pickle)
    claim = Claim(group, model_id, name)
    return Stored(claim, model, payload, SIGNER.sign(claim, payload), estimator)


def compare(stored: Stored, rows: pd.DataFrame) -> None:
    """Raise an error unless a loaded model predicts as the stored one."""
    if not np.array_equal(opened(stored).predict(rows), stored.model.predict(rows)):
        raise SystemExit(f"codec {stored.claim.codec} of group {stored.claim.group_key}: another model came back")


def sign_and_verify(stored: Stored) -> None:
    """Sign a stored model and verify the signature."""
    SIGNER.verify(stored.claim, stored.payload, SIGNER.sign(stored.claim, stored.payload))


def opened(stored: Stored) -> Model:
    """Verify and load a stored model."""
    return codec.load_signed(SIGNER, stored.claim, stored.payload, stored.signature, allow_pickle=stored.allow_pickle)


def calls(kept: list[Stored]) -> dict[str, Callable[[], object]]:
    """Return the calls that are timed, ours and those of the peers. Each handles all groups."""
    timed: dict[str, Callable[[], object]] = {
        "dump": lambda: [codec.dump(stored.model, allow_pickle=stored.allow_pickle) for stored in kept],
        "sign": lambda: [sign_and_verify(stored) for stored in kept],
        "load": lambda: [opened(stored) for stored in kept],
    }
    for name, other in peers_of(kept).items():
        blobs = [other.dump(stored.estimator) for stored in kept]
        timed[f"{name} dump"] = lambda other=other: [other.dump(stored.estimator) for stored in kept]
        timed[f"{name} load"] = lambda other=other, blobs=blobs: [other.load(blob) for blob in blobs]
    return timed


def seconds(call: Callable[[], object]) -> float:
    """Return the wall seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measured(case: Case, kept: list[Stored], repeats: int) -> dict[str, Any]:
    """Return medians per group, and medians of the ratios within each repetition, in which all calls run in turn."""
    timed = calls(kept)
    for call in timed.values():
        call()
    rounds = [{name: seconds(call) for name, call in timed.items()} for _ in range(repeats)]
    took = {name: median(seconds[name] for seconds in rounds) / len(kept) * 1e3 for name in timed}
    result: dict[str, Any] = {
        "estimator": case.estimator,
        "codec": "/".join(sorted({stored.claim.codec for stored in kept})),
        "bytes": round(median(len(stored.payload) for stored in kept)),
        "dump_ms": round(took["dump"], 4),
        "sign_and_verify_ms": round(took["sign"], 4),
        "load_ms": round(took["load"], 4),
    }
    for name, other in peers_of(kept).items():
        size = median(len(other.dump(stored.estimator)) for stored in kept)
        result[name] = {
            "bytes": round(size),
            "dump_ms": round(took[f"{name} dump"], 4),
            "load_ms": round(took[f"{name} load"], 4),
            "bytes_ratio": round(result["bytes"] / size, 2),
            "dump_ratio": round(median(seconds["dump"] / seconds[f"{name} dump"] for seconds in rounds), 2),
            "load_ratio": round(median(seconds["load"] / seconds[f"{name} load"] for seconds in rounds), 2),
        }
    return result


def show(results: list[dict[str, Any]]) -> None:
    """Print the results as a table."""
    print(f"{'':39}{'ours, per group':^42}{'ours / pickle':^23} {'ours / joblib':^23} {'ours / skops':^23}")
    ratios = f"{'bytes':>7} {'dump':>7} {'load':>7}"
    heads = f"{'bytes':>9} {'dump ms':>9} {'sign+v ms':>10} {'load ms':>9}"
    print(f"{'estimator':<23} {'codec':<15} {heads}  {ratios} {ratios} {ratios}")
    for result in results:
        times = f"{result['dump_ms']:9.3f} {result['sign_and_verify_ms']:10.3f} {result['load_ms']:9.3f}"
        line = f"{result['estimator']:<23} {result['codec']:<15} {result['bytes']:9d} {times} "
        for name in [name for name in (PEERS | SKOPS) if name in result]:
            line += "".join(f" {result[name][f'{what}_ratio']:7.2f}" for what in ("bytes", "dump", "load"))
        print(line)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in {"groups": 3, "rows": 200, "features": 8, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--json", action="store_true", help="all figures, the peers' too")
    asked = parser.parse_args()
    frame, base = fleet(asked.groups, asked.rows, asked.features)
    results = [measured(case, kept, asked.repeats) for case in CASES for kept in stored_by(case, base, frame)]
    if asked.json:
        sizes = {name: value for name, value in vars(asked).items() if name != "json"}
        print(json.dumps({**sizes, "results": results}, indent=2))
        return
    print(f"{asked.groups} groups of {asked.rows} rows x {asked.features} features, median of {asked.repeats} runs")
    show(results)


if __name__ == "__main__":
    main()
