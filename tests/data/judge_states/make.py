"""Write a state of the judge to standard output in base64, as the Spinney of another checkout stores it.

    git worktree add /tmp/earlier COMMIT
    cd /tmp/earlier && PYTHONPATH=. python …/tests/data/judge_states/make.py

The state has group a, whose champion m1 has had 5 labels since its promotion after 20, and group b with 3 labels and no
model. The functions are those of the checkout's own tests.
"""

from __future__ import annotations

import base64
import importlib.util
import sys
from pathlib import Path

FILE = Path("tests/pure/core/staleness/test_judge.py")
spec = importlib.util.spec_from_file_location("test_judge", FILE)
assert spec is not None
assert spec.loader is not None
tests = importlib.util.module_from_spec(spec)
sys.modules["test_judge"] = tests
spec.loader.exec_module(tests)

bench = tests.Bench()
bench.tick(tests.rows(20))
bench.tick(tests.decided("m1"))
bench.tick(tests.rows(5, model="m1", at=tests.START + tests.HOUR))
bench.tick(tests.rows(3, group='["b"]', at=tests.START + 2 * tests.HOUR))
sys.stdout.write(base64.b64encode(bench.shard.to_bytes()).decode() + "\n")
