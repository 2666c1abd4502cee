from __future__ import annotations

import signal
import subprocess
import sys

from spinney.local.broker import watchdog


def start(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(watchdog.__file__), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_the_commands_output_and_exit_code_come_through() -> None:
    with start("sh", "-c", "echo hello; exit 3") as process:
        assert process.stdout.read() == b"hello\n"
        assert process.wait(60) == 3


def test_the_command_ends_when_the_leash_is_let_go() -> None:
    with start("sh", "-c", "echo ready; exec sleep 1000") as process:
        process.stdout.readline()
        process.stdin.close()
        assert process.wait(60) == 128 + signal.SIGTERM


def test_sigterm_is_passed_on_and_the_command_may_tidy_up() -> None:
    with start("sh", "-c", "trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.05; done") as process:
        process.stdout.readline()
        process.terminate()
        assert process.stdout.read() == b"tidied\n"
        assert process.wait(60) == 0
