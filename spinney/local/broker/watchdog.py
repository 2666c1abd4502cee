"""Run a command and end it when the parent process ends, even if that was killed.

``python watchdog.py COMMAND…``: standard input is a pipe from the parent. When it closes, the command gets SIGTERM and
after SECONDS_TO_END SIGKILL. A SIGTERM to the watchdog is passed on. It runs as a file and imports only the standard
library, so that it starts quickly.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

SECONDS_TO_END = 10


def main(command: list[str]) -> int:
    """Run the command. Returns its exit code as a shell would: 128 + n if signal n ended it."""
    is_ending = False
    child: subprocess.Popen[bytes] | None = None

    def end(*_: object) -> None:
        nonlocal is_ending
        is_ending = True
        if child:
            child.terminate()

    signal.signal(signal.SIGTERM, end)  # before the command starts: a signal between the two must not orphan it
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    if is_ending:
        child.terminate()
    threading.Thread(target=_end_with_parent, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _end_with_parent(child: subprocess.Popen[bytes]) -> None:
    """Wait until standard input closes, then end the child."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    child.terminate()
    try:
        child.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the other thread still reads: a normal exit would wait for its lock on standard input
