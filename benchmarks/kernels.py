"""How fast groups are fitted: the stacked kernel of `ridge` compared with a loop of the same scikit-learn pipeline.

Both do all that `fit_groups` does: select and order rows, fingerprints, two fits, comparison with a champion, payload
and signature. The figures that follow:

- the loop that an expert would write without these: ``groupby``, fit, predict the held-out fifth, fit again, pickle;
- a scaler and a ridge fitted by Spinney's template, divided by the bare scikit-learn calls;
- a supervised worker process that gets Arrow blocks as Spark passes them: CPU time of a block divided by that of the
  same block without the extra process, and the additional time of its first block.

Run: ``python benchmarks/kernels.py --groups 2000 --rows 50 --features 8``
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe, installed_versions
from spinney.core.training.fit_kernels import single_threaded
from spinney.core.training.fitting import fit_groups
from spinney.workers.group_block import FitTables, GroupBlock
from spinney.workers.supervised_fitting import FitSettings, SupervisedFitter

START = datetime(2024, 1, 1, tzinfo=UTC)
SIGNER = Signer(b"a key only for this benchmark")


def peer(alpha: float) -> Pipeline:
    """Return the scikit-learn pipeline that computes the same as the stacked kernel."""
    return Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler()), ("model", Ridge(alpha=alpha))])


def scaled_ridge() -> Pipeline:
    """Return a pipeline as in a user's module."""
    return make_pipeline(StandardScaler(), Ridge())


def fleet(groups: int, rows: int, features: int) -> tuple[pd.DataFrame, Recipe]:
    """Rows of `groups` groups in a shuffled order, 2 % of the features missing; and the recipe that fits them."""
    random = np.random.default_rng(7)
    n = groups * rows
    x = random.normal(size=(n, features))
    group = np.repeat(np.arange(groups), rows)
    label_model = random.normal(size=(groups, features))
    label = (x * label_model[group]).sum(axis=1) + random.normal(size=n)
    x[random.random(x.shape) < 0.02] = np.nan
    frame = pd.DataFrame({f"x{i}": x[:, i] for i in range(features)})
    frame.insert(0, "group_key", [f'["{g}"]' for g in group])
    frame.insert(1, "event_id", [f"event-{i}" for i in range(n)])
    seconds = pd.to_timedelta(np.tile(np.arange(rows), groups) * 3600, unit="s")
    frame.insert(2, "event_time", (pd.Timestamp(START) + seconds).astype("datetime64[us, UTC]"))
    frame["label"] = label
    recipe = Recipe(
        estimator="ridge",
        params=(("alpha", "1.0"),),
        features=tuple(Feature(f"x{i}", "double") for i in range(features)),
        target=Feature("label", "double"),
        task="regression",
        loss="absolute",
        min_rows=10,
        window_rows=2000,
        window=timedelta(days=90),
        versions=tuple(sorted(installed_versions().items())),
    )
    return frame.sample(frac=1, random_state=7).reset_index(drop=True), recipe


def champions(frame: pd.DataFrame, recipe: Recipe, groups: int) -> pd.DataFrame:
    """Return fit requests of all groups, each with a champion fitted on the first three quarters of the rows."""
    requests = pd.DataFrame({"group_key": [f'["{g}"]' for g in range(groups)]})
    early = frame[frame["event_time"] <= frame["event_time"].quantile(0.75)]
    fitted = fit_groups(early, requests, recipe, START + timedelta(days=30), SIGNER)
    for name, column in (("id", "model_id"), ("codec",) * 2, ("payload",) * 2, ("signature",) * 2):
        requests[f"champion_{name}"] = fitted[column]
    requests["champion_trained_through"] = fitted["trained_through"]
    return requests


def seconds_of(frame: pd.DataFrame, requests: pd.DataFrame, recipe: Recipe) -> float:
    """Return the wall seconds of one call that fits and compares every group."""
    began = time.perf_counter()
    result = fit_groups(frame, requests, recipe, START + timedelta(days=30), SIGNER)
    took = time.perf_counter() - began
    if set(result["status"]) != {"fitted"} or '"champion_error"' in "".join(result["metrics"]):
        raise SystemExit(f"not every group was fitted and compared: {result['status'].value_counts().to_dict()}")
    return took


def seconds_of_bare_loop(frame: pd.DataFrame, recipe: Recipe) -> float:
    """Return the wall seconds of a plain scikit-learn loop over the same groups."""
    names = [feature.name for feature in recipe.features]
    began = time.perf_counter()
    for _, rows in frame.groupby("group_key", sort=False):
        ordered = rows.sort_values(["event_time", "event_id"])
        x, y = ordered[names].to_numpy(), ordered["label"].to_numpy()
        split = len(x) - len(x) // 5
        np.abs(peer(1.0).fit(x[:split], y[:split]).predict(x[split:]) - y[split:]).mean()
        pickle.dumps(peer(1.0).fit(x, y))
    return time.perf_counter() - began


def one_by_one_over_bare_calls(frame: pd.DataFrame, recipe: Recipe, groups: int, repeats: int) -> float:
    """Processor time of `fit_groups` for a scaler and a ridge over that of their bare calls; the median of the ratios.

    The bare calls have their rows in memory, sorted and whole: fit the older rows, predict the held-out fifth, fit all.
    """
    recipe = replace(recipe, estimator="kernels:scaled_ridge", params=())
    whole = frame.fillna(0.0)
    requests = champions(whole, recipe, groups)
    whole = whole[whole["group_key"].isin(requests["group_key"])].reset_index(drop=True)
    rows = len(whole) // groups
    ordered = whole.sort_values(["group_key", "event_time"], kind="stable")
    x = ordered[[feature.name for feature in recipe.features]].to_numpy().reshape(groups, rows, -1)
    y, older = ordered["label"].to_numpy().reshape(groups, rows), rows - rows // 5

    def bare() -> None:
        for features, label in zip(x, y, strict=True):
            scaled_ridge().fit(features[:older], label[:older]).predict(features[older:])
            scaled_ridge().fit(features, label)

    with single_threaded():
        took = [(_processor(lambda: seconds_of(whole, requests, recipe)), _processor(bare)) for _ in range(repeats)]
    return median(ours / theirs for ours, theirs in took)


def supervised(frame: pd.DataFrame, requests: pd.DataFrame, recipe: Recipe, repeats: int) -> tuple[float, float]:
    """Processor time of a block in a child over that in this process; milliseconds that its first takes more."""
    rows = frame.sort_values(["group_key", "event_time"])
    tables = FitTables(*(pa.Table.from_pandas(frame, preserve_index=False) for frame in (rows, requests)))
    fits = FitSettings(recipe, START + timedelta(days=30), SIGNER)

    def fit_here() -> None:
        block = GroupBlock(tables)
        fit_groups(block.rows, block.requests, recipe, fits.clock, SIGNER)

    here = [_processor(fit_here) for _ in range(repeats)]
    # What a child takes is known when it has ended: a block of it, by the difference.
    one, more = (min(_processor(lambda n=n: _in_child(tables, n, fits)) for _ in range(2)) for n in (1, 1 + repeats))
    per_block = (more - one) / repeats
    return per_block / (sum(here) / repeats), (one - per_block) * 1e3


def _in_child(tables: FitTables, times: int, fits: FitSettings) -> None:
    with closing(SupervisedFitter(fits)) as child:
        for _ in range(times):
            child.fit(tables)


def _processor(work: Callable[[], object]) -> float:
    def spent() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in used)

    before = spent()
    work()
    return spent() - before


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--groups", type=int, default=2000)
    options.add_argument("--rows", type=int, default=50)
    options.add_argument("--features", type=int, default=8)
    options.add_argument("--loop-groups", type=int, default=300, help="groups of the (slow) loops")
    options.add_argument("--repeats", type=int, default=3)
    args = options.parse_args()
    frame, recipe = fleet(args.groups, args.rows, args.features)
    requests = champions(frame, recipe, args.groups)
    few = requests.head(args.loop_groups)
    some = frame[frame["group_key"].isin(few["group_key"])].reset_index(drop=True)
    loop = replace(recipe, estimator="kernels:peer")  # this very file, as a user's module would be
    seconds_of(some, few, recipe)  # warm up both
    seconds_of(some, few.head(5), loop)
    stacked = min(seconds_of(frame, requests, recipe) for _ in range(args.repeats)) / len(requests)
    looped = min(seconds_of(some, few, loop) for _ in range(args.repeats)) / len(few)
    bare = min(seconds_of_bare_loop(some, recipe) for _ in range(args.repeats)) / len(few)
    over_bare_calls = one_by_one_over_bare_calls(frame, recipe, args.loop_groups, 3 * args.repeats)
    in_child = supervised(frame, requests, recipe, 3 * args.repeats), supervised(some, few, loop, args.repeats)
    result = {
        "groups": args.groups,
        "rows": args.rows,
        "features": args.features,
        "stacked_us_per_group": round(stacked * 1e6, 1),
        "loop_us_per_group": round(looped * 1e6, 1),
        "bare_loop_us_per_group": round(bare * 1e6, 1),
        "stacked_groups_per_second": round(1 / stacked),
        "loop_over_stacked": round(looped / stacked, 1),
        "bare_loop_over_stacked": round(bare / stacked, 1),
        "one_by_one_over_bare_calls": round(over_bare_calls, 2),
        "stacked_in_child_over_here": round(in_child[0][0], 2),
        "loop_in_child_over_here": round(in_child[1][0], 2),
        "first_block_ms_more": [round(ms) for _, ms in in_child],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
