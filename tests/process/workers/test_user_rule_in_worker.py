"""A user's rule of the gate that ends its process, or does not end, costs its own group the attempt and no other."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from recipes import RIDGE

from spinney.core.champions.user_rule import Comparison
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import UserRuleTerms
from spinney.core.training.fitting import fit_groups
from spinney.retraining.fitting.fit_request_table import STORED_MODEL_TYPES
from spinney.workers.group_block import FitTables
from spinney.workers.supervised_fitting import FitSettings, SupervisedFitter
from spinney.workers.worker_process import Limits

START = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
RECIPE = replace(RIDGE, user_rule=UserRuleTerms("rules_of_a_test:rule", 30, 0.05))
KEYS = ['["a"]', '["b"]', '["c"]']
FITTED_BEFORE = "e07"
BAD_LABEL = 1e6
"""The labels of the group whose rule misbehaves: its losses are above any other's."""


def rows_of(key: str) -> pd.DataFrame:
    random = np.random.default_rng([*key.encode()])
    scale = BAD_LABEL if key == KEYS[1] else 1.0
    frame = pd.DataFrame({"group_key": key, "x": random.normal(size=12)})
    frame["label"] = scale * random.normal(size=12)
    times = [START + timedelta(hours=hour) for hour in range(12)]
    return frame.assign(event_id=[f"e{i:02}" for i in range(12)], event_time=pd.DatetimeIndex(times).as_unit("us"))


def dies(_: Comparison) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def exits(_: Comparison) -> Any:
    sys.exit(3)


def hangs(_: Comparison) -> Any:
    while True:
        time.sleep(1)


def raises(_: Comparison) -> Any:
    raise KeyError("loss")


@pytest.mark.parametrize(
    ("misbehaves", "status", "error"),
    [
        (dies, "failed", "while the rule of the gate was asked"),
        (exits, "failed", "while the rule of the gate was asked"),
        (hangs, "timed_out", "while the rule of the gate was asked"),
        (raises, "failed", "got KeyError: 'loss'"),
    ],
)
def test_the_attempt_of_that_group_fails_and_the_others_have_their_models(
    monkeypatch: pytest.MonkeyPatch, misbehaves: Callable[[Comparison], Any], status: str, error: str
) -> None:
    def rule(found: Comparison) -> Any:
        is_bad = found.champion_losses.max() > 1000
        return misbehaves(found) if is_bad else (True, "small losses")

    module = types.ModuleType("rules_of_a_test")
    module.rule = rule  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rules_of_a_test", module)
    rows = pd.concat(map(rows_of, KEYS), ignore_index=True)
    before = fit_groups(rows[rows["event_id"] < FITTED_BEFORE], pd.DataFrame({"group_key": KEYS}), RIDGE, CLOCK, SIGNER)
    names = {"id": "model_id", "codec": "codec", "payload": "payload", "signature": "signature"}
    names |= {"trained_through": "trained_through", "recipe_id": "recipe_id"}
    requests = before[["group_key"]].assign(**{f"champion_{name}": before[column] for name, column in names.items()})
    asked = requests.reindex(columns=["group_key", *STORED_MODEL_TYPES]).astype(object)
    tables = FitTables(*(pa.Table.from_pandas(frame, preserve_index=False) for frame in (rows, asked)))
    limits = Limits(time_limit_s=3.0, memory_limit_bytes=512 << 20)
    with closing(SupervisedFitter(FitSettings(RECIPE, CLOCK, SIGNER, limits))) as supervising:
        found = pd.concat([frame for _, frame in supervising.fit(tables)]).set_index("group_key").loc[KEYS]
    assert found["status"].tolist() == ["fitted", status, "fitted"]
    assert error in found["error"].iloc[1]
    expected = fit_groups(rows, requests, RIDGE, CLOCK, SIGNER)
    for group in (0, 2):
        assert found["payload"].iloc[group] == expected["payload"].iloc[group]
        answer = json.loads(found["metrics"].iloc[group])["user_rule"]
        assert answer == {"rule": "rules_of_a_test:rule", "promotes": True, "reason": "small losses"}
