"""Estimators as arrays, written and read in other processes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)

from spinney.core.models.arrays import arrays_codec


def run(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=Path(arrays_codec.__file__).parents[4],
        env={**environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(arrays_codec.__file__).parents[4])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_equal_estimators_are_equal_bytes_in_another_process() -> None:
    script = (
        "import hashlib, numpy as np\n"
        "from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from spinney.core.models.arrays import arrays_codec\n"
        "x = np.arange(200.0).reshape(50, 4) % 7\n"
        "for kind in (RandomForestRegressor, GradientBoostingRegressor):\n"
        "    fitted = kind(n_estimators=4, random_state=1)\n"
        "    print(hashlib.sha256(arrays_codec.pack(fitted.fit(x, x[:, 0]))).hexdigest())\n"
    )
    printed = run(script, PYTHONHASHSEED="12345")
    x = np.arange(200.0).reshape(50, 4) % 7
    kinds = (RandomForestRegressor, GradientBoostingRegressor)
    fitted = [kind(n_estimators=4, random_state=1).fit(x, x[:, 0]) for kind in kinds]
    here = [hashlib.sha256(arrays_codec.pack(each)).hexdigest() for each in fitted]
    assert printed.split() == here


def test_random_changes_behind_a_checksum_that_holds_never_end_the_process() -> None:
    random = np.random.default_rng(5)
    x = random.normal(size=(80, 6))
    y = x[:, 0] * 2 + x[:, 1] + random.normal(size=80)
    fitted = (
        RandomForestRegressor(5, random_state=1).fit(x, y),
        HistGradientBoostingRegressor(max_iter=5, random_state=1).fit(x, y),
        GradientBoostingClassifier(n_estimators=3, random_state=1).fit(x, np.digitize(y, [-1, 1])),
    )
    script = (Path(__file__).parent / "hostile_arrays.py").read_text()
    printed = run(script, *(arrays_codec.pack(each).hex() for each in fitted))
    tried, refused = map(int, printed.split())
    assert tried == 450
    assert 0 < refused < tried  # some changes are only other numbers
