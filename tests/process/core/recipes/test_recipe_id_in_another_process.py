from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from recipes import VERSIONED

from spinney.core.recipes import recipe as module


def test_another_process_gives_the_same_recipe_id() -> None:
    root = Path(module.__file__).parents[3]
    script = (
        "from datetime import timedelta\nfrom spinney.core.recipes.recipe import Feature, Recipe\n"
        f"print({VERSIONED!r}.recipe_id)"
    ).replace("datetime.timedelta", "timedelta")
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == VERSIONED.recipe_id, done.stderr
