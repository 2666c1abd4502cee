"""The cost of a registered fleet: to register and load it, and to predict a million rows in pandas and by a Spark UDF.

Each group has a linear model of three features; every tenth row is of a group without one, so that the global model
answers. The sum of all answers is compared with NumPy's. Run: ``python benchmarks/registry.py --groups 50000``
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spinney.core import keys
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import Config, parse
from spinney.core.features.encoding import Encoder
from spinney.core.models import codec
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Feature
from spinney.local.java_and_jars import runtime
from spinney.spark.session import session
from spinney.tracking import registry

KEY = "a key only for this benchmark"
FEATURES = ("a", "b", "c")
TEXT = """\
[fleet]
name = "bench"
group = ["machine"]
parents = [[]]
event_id = "id"
event_time = "at"
target = "wear"
features = ["a", "b", "c"]
[fleet.columns]
machine = "bigint"
a = "double"
b = "double"
c = "double"
wear = "double"
[kafka]
events = "none"
[storage]
root = "{folder}/root"
[tracking]
uri = "sqlite:///{folder}/mlflow.db"
"""


def champions(coefficients: np.ndarray[Any, Any]) -> Champions:
    """Return a model for each row of coefficients; the last one is the global model."""
    signer = Signer(KEY.encode())
    encoder = Encoder(tuple(Feature(name, "double") for name in FEATURES))
    histories = {}
    for at, row in enumerate(coefficients):
        key = keys.encode([at]) if at < len(coefficients) - 1 else keys.GLOBAL
        kind, payload = codec.dump(Model(encoder, Linear(Link.IDENTITY, np.zeros(1), row[None, :], np.zeros(3))))
        signature = signer.sign(Claim(key, f"model{at}", kind), payload)
        histories[key] = (Promotion(0, f"model{at}", "promoted", 1, 1, 1, "batch-0", kind, payload, signature),)
    return Champions(histories)


def rows(spark: SparkSession, count: int, groups: int) -> DataFrame:
    """Rows in no order of groups; features are small whole numbers, so that sums are exact enough to compare."""
    at = F.col("id")
    return spark.range(count, numPartitions=8).select(
        ((at * 7919) % int(groups * 10 / 9)).alias("machine"),
        *(((at * step) % 10).cast("double").alias(name) for name, step in zip(FEATURES, (3, 7, 11), strict=True)),
    )


def frame(count: int, groups: int) -> pd.DataFrame:
    """Return the same rows in pandas."""
    at = np.arange(count)
    features = {name: (at * step % 10).astype(float) for name, step in zip(FEATURES, (3, 7, 11), strict=True)}
    return pd.DataFrame({"machine": at * 7919 % int(groups * 10 / 9), **features})


def measured(config: Config, groups: int, count: int) -> dict[str, Any]:
    """Register and load a fleet and predict by it. Returns seconds and sizes."""
    coefficients = np.random.default_rng(7).integers(-5, 5, (groups + 1, 3)).astype(float)
    all_rows = frame(count, groups)
    asked = coefficients[np.minimum(all_rows["machine"], groups)]
    wanted = float((asked * all_rows[list(FEATURES)].to_numpy()).sum())
    made = champions(coefficients)
    took: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        done = call()
        took[name] = round(time.perf_counter() - start, 2)
        return done

    timed("register", lambda: registry.register(config, made, datetime.now(UTC), "champion"))
    mlflow.set_tracking_uri(config.tracking.uri)
    uri = "models:/bench@champion"
    model = timed("load", lambda: mlflow.pyfunc.load_model(uri))
    answered = timed("pandas, each model opened", lambda: model.predict(all_rows))
    timed("pandas, again", lambda: model.predict(all_rows))
    if abs(answered["prediction"].sum() - wanted) > 1e-6 * abs(wanted):
        raise SystemExit(f"the answers' sum: expected {wanted}, got {answered['prediction'].sum()}")
    spark = session(config, runtime=runtime())
    schema = "prediction double, model_id string, answered_by string"
    udf = mlflow.pyfunc.spark_udf(spark, uri, result_type=schema, env_manager="local")

    def counted() -> list[Any]:
        asked_rows = rows(spark, count, groups)
        found = asked_rows.select(udf(F.struct(*asked_rows.columns)).alias("answer"))
        sums = F.count("*").alias("rows"), F.sum("answer.prediction").alias("sum")
        return found.groupBy("answer.answered_by").agg(*sums).collect()

    told = timed("spark_udf, workers start", counted)
    timed("spark_udf, again", counted)
    # A batch has most groups in it: the fewer batches, the less often each is looked up.
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "100000")
    timed("spark_udf, batches of 100,000", counted)
    if abs(sum(row["sum"] for row in told) - wanted) > 1e-6 * abs(wanted):
        raise SystemExit(f"the answers' sum: expected {wanted}, got {told}")
    spark.stop()
    answering = {name: seconds for name, seconds in took.items() if name.startswith(("pandas", "spark_udf"))}
    rates = {f"{name}: rows/s": round(count / seconds) for name, seconds in answering.items()}
    return {"groups": groups, "rows": count, "seconds": took, **rates, "by": {row[0]: row[1] for row in told}}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    os.environ["SPINNEY_SIGNING_KEY"] = KEY
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        config = parse(TEXT.format(folder=Path(folder).as_posix()), "fleet.toml", {})
        print(json.dumps(measured(config, asked.groups, asked.rows), indent=1))


if __name__ == "__main__":
    main()
