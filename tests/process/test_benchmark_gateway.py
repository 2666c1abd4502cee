"""`benchmarks/gateway.py` runs without its peers, and what it says adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_a_tiny_run_measures_every_kind_of_request_and_says_which_peers_were_left_out() -> None:
    sizes = ["--groups", "120", "--clients", "2", "--seconds", "0.3", "--runs", "1"]
    words = [sys.executable, "benchmarks/gateway.py", *sizes, "--no-mlflow", "--json"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    values = {each["what"]: each["value"] for each in found["results"]}
    kinds = [f"{kind}, {which}" for kind in ("warm", "cold", "unseen") for which in ("median", "99 %")]
    kinds += ["warm, rate", "10,000 rows of 1,000 groups, median", "start until it answers", "pass over all groups"]
    assert all(values[kind] > 0 for kind in kinds)
    # All 120 models fit into the smallest cache, so the pass takes no model of the hot set out.
    assert [values[f"hot set's hit rate {when} the pass"] for when in ("before", "after")] == [100, 100]
    assert [each["peer_value"] for each in found["results"]] == [None] * len(found["results"])
    assert ["not run" in note for note in found["notes"]] == [True, True]
