from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from spinney.core.recipes import recipe as module
from spinney.core.recipes.recipe import Feature, Recipe

BASE = Recipe(
    estimator="ridge",
    params=(("alpha", "1.0"),),
    features=(Feature("x", "double"), Feature("s", "string")),
    target=Feature("y", "double"),
    task="regression",
    loss="absolute",
    min_rows=20,
    window_rows=2000,
    window=timedelta(days=90),
    versions=(("numpy", "2.4.6"), ("scikit-learn", "1.9.1")),
)


def test_another_process_gives_the_same_name() -> None:
    root = Path(module.__file__).parents[3]
    script = (
        "from datetime import timedelta\nfrom spinney.core.recipes.recipe import Feature, Recipe\n"
        f"print({BASE!r}.recipe_id)"
    ).replace("datetime.timedelta", "timedelta")
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == BASE.recipe_id, done.stderr
