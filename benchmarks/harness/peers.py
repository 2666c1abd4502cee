"""What a user could write instead of `retrain --all`: ``python -m harness.peers joblib|polars|spark ROWS OUT``.

ROWS: folder of Parquet with gid, x0 … x7, y. OUT: folder for (gid, pickle) in Parquet. Prints seconds from reading to
writing, imports and JVM not counted, and models. None of them holds rows back, compares with the current model,
isolates a group that fails, or can be resumed.

- joblib: pandas groupby, scikit-learn's Ridge, one process a core.
- polars: sums of products by group, one batched solve, a Ridge object for each group. Linear models only.
- spark: ``groupBy(gid).applyInPandas`` with the same Ridge, as most people begin.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.linear_model import Ridge

from harness.fleet import FEATURES

ALPHA = 1.0
CHUNKS_A_CORE = 8
X = list(FEATURES)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fitted(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a group's fitted model, pickled."""
    groups = [(name, rows) for name, rows in frame.groupby("gid", sort=False)]
    blobs = [pickle.dumps(Ridge(alpha=ALPHA).fit(rows[X].to_numpy(), rows["y"].to_numpy())) for _, rows in groups]
    return pd.DataFrame({"gid": [name for name, _ in groups], "model": blobs})


def by_joblib(rows: Path, out: Path) -> int:
    """Fit every group by joblib. Returns the number of models."""
    from joblib import Parallel, delayed

    frame = pq.read_table(rows).to_pandas()
    chunk = pd.util.hash_array(frame["gid"].to_numpy()) % (cores() * CHUNKS_A_CORE)
    parts = [part for _, part in frame.groupby(chunk)]
    done = Parallel(n_jobs=cores())(delayed(fitted)(part) for part in parts)
    for number, part in enumerate(done):
        pq.write_table(pa.Table.from_pandas(part), out / f"{number}.parquet")
    return sum(len(part) for part in done)


def by_polars(rows: Path, out: Path) -> int:
    """Compute the ridge of every group from sums of one Polars query. Returns the number of models."""
    import polars as pl

    products = [(a, b) for n, a in enumerate(X) for b in [*X[n:], "y"]]
    sums = pl.scan_parquet(rows / "*.parquet").group_by("gid").agg(
        pl.len().alias("n"),
        *(pl.col(name).sum().alias(name) for name in [*X, "y"]),
        *((pl.col(a) * pl.col(b)).sum().alias(f"{a}*{b}") for a, b in products),
    )  # fmt: skip
    found = sums.collect(engine="streaming")
    count = found["n"].to_numpy()[:, None]
    means = found.select([*X, "y"]).to_numpy() / count
    gram, moment = np.empty((len(found), len(X), len(X))), np.empty((len(found), len(X)))
    for a, b in products:
        at = X.index(a)
        centred = found[f"{a}*{b}"].to_numpy() - count[:, 0] * means[:, at] * means[:, [*X, "y"].index(b)]
        if b == "y":
            moment[:, at] = centred
        else:
            gram[:, at, X.index(b)] = gram[:, X.index(b), at] = centred
    weights = np.linalg.solve(gram + ALPHA * np.eye(len(X)), moment[:, :, None])[:, :, 0]
    intercepts = means[:, -1] - (weights * means[:, :-1]).sum(axis=1)
    blobs = [_ridge(row, intercept) for row, intercept in zip(weights, intercepts, strict=True)]
    pl.DataFrame({"gid": found["gid"], "model": blobs}).write_parquet(out / "models.parquet")
    return len(found)


def _ridge(weights: Any, intercept: float) -> bytes:
    model = Ridge(alpha=ALPHA)
    model.coef_, model.intercept_, model.n_features_in_ = weights, float(intercept), len(weights)
    return pickle.dumps(model)


def by_spark(rows: Path, out: Path) -> int:
    """Fit every group by Spark's applyInPandas. Returns the number of models."""
    from pyspark import cloudpickle
    from pyspark.sql import SparkSession

    from spinney.local.java_and_jars import runtime

    spark = SparkSession.getActiveSession()
    if spark is None:
        os.environ["JAVA_HOME"] = str(runtime().java_home)
        os.environ["PYSPARK_PYTHON"] = sys.executable  # whichever python3 is on the path need not have pandas
        builder = SparkSession.builder.master(f"local[{cores()}]").config("spark.ui.enabled", "false")
        spark = builder.config("spark.sql.shuffle.partitions", str(2 * cores())).getOrCreate()
    # Workers of a session that is there already need not have this package on their path.
    cloudpickle.register_pickle_by_value(sys.modules[fitted.__module__])
    models = spark.read.parquet(str(rows)).groupBy("gid").applyInPandas(fitted, "gid string, model binary")
    models.write.mode("overwrite").parquet(str(out))
    return int(pq.ParquetDataset(out).read(["gid"]).num_rows)


PEERS = {"joblib": by_joblib, "polars": by_polars, "spark": by_spark}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    which, rows, out = sys.argv[1:] if arguments is None else arguments
    Path(out).mkdir(parents=True, exist_ok=True)
    if which == "spark":
        from spinney.local import java_and_jars  # noqa: F401 - imports are not timed
    began = time.perf_counter()
    models = PEERS[which](Path(rows), Path(out))
    print(json.dumps({"seconds": time.perf_counter() - began, "models": models}))


if __name__ == "__main__":
    main()
