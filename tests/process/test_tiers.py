from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def collect(tests: Path, *words: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(HERE.parent / "conftest.py", tests / "conftest.py")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    return subprocess.run(
        [*command, *words, "--rootdir", str(tests), str(tests)],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # a second of imports, and none is asked for
        capture_output=True,
        text=True,
        check=False,
        cwd=tests,
    )


def put(tests: Path, path: str) -> None:
    (tests / path).parent.mkdir(parents=True, exist_ok=True)
    (tests / path).write_text("def test_nothing():\n    pass\n")


def test_a_tests_folder_is_its_tier(tmp_path: Path) -> None:
    put(tmp_path, "pure/core/test_one.py")
    put(tmp_path, "kafka/test_two.py")
    listed = collect(tmp_path, "-m", "kafka").stdout
    assert "test_two.py" in listed
    assert "test_one.py" not in listed


def test_a_test_outside_every_tier_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "unit/test_three.py")
    done = collect(tmp_path)
    assert done.returncode != 0
    assert (
        "a test lives in tests/{pure,process,spark,scale,kafka,e2e}/; move it into its tier"
        in done.stderr + done.stdout
    )
