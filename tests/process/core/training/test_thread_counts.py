"""How many threads linear algebra has is fixed when a process starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import recipes

from spinney.core.training import fitting

THREADS = """
import hashlib, sys
import numpy as np, pandas as pd
from collections.abc import Callable
from dataclasses import replace
from spinney.core.recipes.recipe import Feature
sys.path[:0] = sys.argv[1:]
from test_fitting import RECIPE, one, rows_of
rows = rows_of('["a"]', 1500)
words = np.random.default_rng(1).integers(0, 32, (1500, 6)).astype(str)
rows = rows.assign(**{f"s{i}": words[:, i] for i in range(6)})
features = (*RECIPE.features, *(Feature(f"s{i}", "string") for i in range(6)))
print(hashlib.sha256(one(rows, replace(RECIPE, features=features, window_rows=9999))["payload"]).hexdigest())
"""


def test_one_core_or_many_give_the_same_bytes() -> None:
    root, here = Path(fitting.__file__).parents[3], Path(__file__).parents[4] / "tests" / "pure" / "core" / "training"
    digests = set()
    for threads in ("1", "2"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", THREADS, str(here), str(Path(recipes.__file__).parent)]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1
