"""Memory that was freed goes back to the system. In a process of its own, whose heap nothing else uses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from linear_fleet import write_fleet

SCRIPT = """
import json
from pathlib import Path
import pyarrow as pa
from spinney.gateway.memory_release import release_free_memory, use_system_allocator

def resident_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

use_system_allocator()
found = {"allocator": pa.default_memory_pool().backend_name, "before": resident_mb()}
blocks = [bytes(1_000) for _ in range(200_000)]
pin = bytes(1_000)  # above the others: without a trim the heap cannot shrink below it
found["full"] = resident_mb()
blocks.clear()
found["freed"] = resident_mb()
release_free_memory()
print(json.dumps(found | {"released": resident_mb()}))
"""


def test_freed_memory_is_given_back_although_the_heap_has_a_block_above_it() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["allocator"] == "system"
    assert found["full"] - found["before"] > 150
    assert found["full"] - found["freed"] < 50, "the C library has kept it"
    assert found["released"] - found["before"] < 50


def test_spinney_serve_loads_deltalake_with_settings_that_release_memory_and_yours_override_them(
    tmp_path: Path,
) -> None:
    write_fleet(tmp_path, 1)
    command = [sys.executable, "-c", "from spinney.cli import main; main()", "serve"]

    def reported(given: str) -> tuple[str, ...]:
        """What the allocator inside deltalake reports of its settings when the process ends, for want of a key."""
        environment = {**os.environ, "_RJEM_MALLOC_CONF": given}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert "expected an API key" in done.stderr
        found = re.findall(r"opt\.(dirty|muzzy)_decay_ms: (-?\d+)", done.stderr)
        return tuple(value for _, value in sorted(found))

    assert reported("stats_print:true") == ("0", "0")
    assert reported("stats_print:true,dirty_decay_ms:1234") == ("1234", "0")
