"""`benchmarks/load.py` runs, and what it says adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def test_a_tiny_run_says_what_was_loaded_and_what_it_took() -> None:
    words = [sys.executable, "benchmarks/load.py", "--groups", "20", "--rows", "30", "--runs", "1", "--json"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (run,) = found["runs"]
    assert found["rows"] == 600
    assert found["rows_per_second"] == pytest.approx(600 / run["spinney"]["wall_s"])
    assert found["ratio"] == pytest.approx(run["spinney"]["wall_s"] / run["peer"]["wall_s"])
    assert min(run[name]["cpu_s"] for name in ("spinney", "few", "peer")) > 0
