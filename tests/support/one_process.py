"""A fixture for tests that stay within their process: nothing is started, and nobody listens on a port."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

IMPURE = frozenset({"os.fork", "os.posix_spawn", "subprocess.Popen", "socket.bind"})
ABOUT_THE_MACHINE = frozenset({"lscpu", "uname", "ldconfig", "gcc", "cc", "ld", "objdump", "sysctl", "file"})
"""Programs that libraries ask for cores or shared libraries, once in a process, in whichever module comes first."""
_seen: list[str] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event in IMPURE and not (arguments and Path(str(arguments[0])).name in ABOUT_THE_MACHINE):
        _seen.append(f"{event}{arguments[:1]!r}")


sys.addaudithook(_note)


@pytest.fixture(scope="module", autouse=True)
def no_process_is_started() -> Iterator[None]:
    """Fail the tests of a module that started a process or listened on a port."""
    _seen.clear()
    yield
    assert not _seen, f"tests: expected no process and no port; got {', '.join(_seen)}. Move them to tests/process"
