"""The peak of a task is not that of an earlier task of its worker, which is a process of its own here."""

from __future__ import annotations

import json
import subprocess
import sys

MB = 1_000_000
WORKER = """
import json
from batch.sample_model_writing import peaks, reset_peak

bytearray(b"x") * 400_000_000
before = peaks()["worker_peak"]
reset_peak()
again = peaks()["worker_peak"]
held = bytearray(b"x") * 100_000_000
print(json.dumps([before, again, peaks()["worker_peak"]]))
"""


def test_a_peak_is_that_since_the_last_reset_where_the_system_can_reset_it() -> None:
    larger = bytearray(b"x") * 700_000_000  # the memory of the process that starts it must not count
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True)
    del larger
    before, again, later = json.loads(done.stdout)
    assert before > 400 * MB
    if sys.platform == "linux":
        assert again < before - 300 * MB
        assert again + 50 * MB < later < before
    else:
        assert before == again == later
