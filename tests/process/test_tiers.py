from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

from tier_scheduling import TierScheduling

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
        "a test lives in tests/{pure,files,process,spark,scale,kafka,e2e}/; move it into its tier"
        in done.stderr + done.stdout
    )


def test_a_pure_test_imports_nothing_of_ours_but_the_core() -> None:
    """The simulated fleets of the benchmarks' harness are functions of the core too."""
    own, pure = {"spinney", "schemas", "batch", "streaming", "demo", "harness"}, ("spinney.core", "schemas", "harness")
    found = {}
    for path in (HERE.parent / "pure").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
        names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names = {
            name
            for name in names
            if name.partition(".")[0] in own and not f"{name}.".startswith(tuple(f"{each}." for each in pure))
        }
        if names:
            found[path.name] = sorted(names)
    assert not found


def test_the_third_process_takes_files_without_spark_first_and_then_the_last_ones() -> None:
    scheduling = TierScheduling.__new__(TierScheduling)
    files = [
        f"tests/{name}.py" for name in ("e2e/test_a", "spark/test_b", "spark/test_c", "files/test_d", "pure/test_e")
    ]
    scheduling.numnodes, scheduling.assigned_work = 2, {}
    scheduling.workqueue = OrderedDict((file, {f"{file}::test": False}) for file in files)

    class Process:
        def __init__(self, name: str) -> None:
            self.gateway, self.given = SimpleNamespace(id=name), []

        def send_runtest_some(self, indices: list[int]) -> None:
            self.given += [files[at] for at in indices]

    first, third = Process("gw0"), Process("gw2")
    scheduling.registered_collections = {each: [f"{file}::test" for file in files] for each in (first, third)}
    for each in (first, third, third, third, first):
        scheduling._assign_work_unit(each)
    assert third.given == [files[3], files[4], files[2]]
    assert first.given == [files[0], files[1]]
