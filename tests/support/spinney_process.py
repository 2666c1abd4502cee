"""`spinney` as a process of its own, or called in the process of the test where only the command matters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest
from click.testing import CliRunner
from fork_server import ForkedProcess, ForkServer
from shop import Shops

from spinney.cli import main

SECONDS = 300
PROJECT = Path(__file__).parents[2]

INTERPRETED = "-Dspark.sql.codegen.factoryMode=NO_CODEGEN"
"""Spark's own option for tests. The few rows of such a process are sooner interpreted than the expressions of four
queries are compiled, which the Spark session of the tests does.
"""


def command(shops: Shops, verb: str, *words: str) -> list[str]:
    """Return the command line of a verb of `spinney`."""
    return [sys.executable, "-c", "from spinney.cli import main; main()", verb, "--config", str(shops.file), *words]


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    java = " ".join(filter(None, [os.environ.get("SPARK_SUBMIT_OPTS"), INTERPRETED]))
    return {**os.environ, "PYTHONPATH": path, "SPARK_SUBMIT_OPTS": java}


@cache
def fork_server() -> ForkServer:
    """Return the fork server of this process, started at the first call."""
    return ForkServer(environment())


def spinney(shops: Shops, verb: str, *words: str, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    """Run it to its end in a forked process. crash_at: the step after which it is killed with SIGKILL."""
    return fork_server().run(
        [verb, "--config", str(shops.file), *words],
        folder=shops.folder,
        environment=environment(),
        timeout_s=SECONDS,
        crash_at=crash_at,
    )


@contextmanager
def running_stream(shops: Shops, log: Path, *words: str) -> Iterator[ForkedProcess]:
    """`spinney stream` in the background, in a forked process; killed at the end if it still runs."""
    words = ("stream", "--config", str(shops.file), *words)
    process = fork_server().start(words, folder=shops.folder, environment=environment(), out=log, err=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


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
