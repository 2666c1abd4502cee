"""`spinney` as a process of its own, or called in the process of the test where only the command matters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest
from click.testing import CliRunner
from shop import Shops

from spinney.cli import main
from spinney.storage import crashpoints

SECONDS = 300
PROJECT = Path(__file__).parents[2]

INTERPRETED = "-Dspark.sql.codegen.factoryMode=NO_CODEGEN"
"""Spark's own option for tests. The few rows of such a process are sooner interpreted than the expressions of four
queries are compiled, which the Spark session of the tests does.
"""


def command(shops: Shops, verb: str, *words: str) -> list[str]:
    run = "from spinney.cli import main; main()"
    return [sys.executable, "-c", run, verb, "--config", str(shops.file), *words]


def environment(crash_at: str = "") -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    java = " ".join(filter(None, [os.environ.get("SPARK_SUBMIT_OPTS"), INTERPRETED]))
    return {**os.environ, "PYTHONPATH": path, "SPARK_SUBMIT_OPTS": java, crashpoints.VARIABLE: crash_at}


def spinney(shops: Shops, verb: str, *words: str, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    """Run it to its end. crash_at: a crash point that kills it with SIGKILL."""
    return subprocess.run(
        command(shops, verb, *words),
        env=environment(crash_at),
        cwd=shops.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def called(
    words: Sequence[str], folder: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    """Call `spinney` in this process, with these environment variables added.

    Saves the start of Python and imports, and of a JVM where this process has a Spark session. Whatever is no error of
    the command's own is raised.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in variables.items():
            patch.setenv(name, value)
        done = CliRunner().invoke(main, words, catch_exceptions=False)
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
