"""Run a command and end it when whoever started this ends, however that happened.

``python watchdog.py COMMAND…``: standard input is the leash. When it closes, because the parent let go or was killed,
the command gets SIGTERM and, if that does not help, SIGKILL. SIGTERM here is passed on. Run as a file, with nothing
imported but the standard library: it has to start quickly.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

SECONDS_TO_END = 10


def main(command: list[str]) -> int:
    """The command's exit code, as a shell would give it."""
    asked_to_end = False
    child: subprocess.Popen[bytes] | None = None

    def end(*_: object) -> None:
        nonlocal asked_to_end
        asked_to_end = True
        if child:
            child.terminate()

    signal.signal(signal.SIGTERM, end)  # before the command starts: a signal between the two must not orphan it
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    if asked_to_end:
        child.terminate()
    threading.Thread(target=_hold, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _hold(child: subprocess.Popen[bytes]) -> None:
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
    os._exit(code)  # the holding thread still reads: an orderly exit would wait for its lock on standard input
