"""The process from which Spark forks its Python workers, forked itself from one that has imported what it imports.

Spark's JVM starts a program, by default Python. The one that is made here hands its standard streams and variables over
to the process that forks. It ends when the forked one does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

MODULE = "spinney.local.python_daemon"
PARENT_CHECK_S = 1.0

PROGRAM = """\
#!{python} -IS
import json, os, socket, sys

if sys.argv[1:3] != ["-m", "{module}"]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
link = socket.socket(socket.AF_UNIX)
link.connect("{address}")
request = json.dumps({{"environment": dict(os.environ), "folder": os.getcwd(), "words": sys.argv[3:]}}).encode()
socket.send_fds(link, [len(request).to_bytes(4, "big")], [0, 1, 2])
link.sendall(request)
os.closerange(0, 3)
link.recv(1)
"""


def start(place: Path) -> Path:
    """Fork the process that forks daemons; it ends with this one. Returns the program that Spark has to start."""
    address, program = place / "socket", place / "python"
    program.write_text(PROGRAM.format(python=sys.executable, module=MODULE, address=address), encoding="utf-8")
    program.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen()
    parent = os.getpid()
    if os.fork() == 0:
        _accept(listener, parent)
        os._exit(0)
    listener.close()
    return program


def _accept(listener: socket.socket, parent: int) -> None:
    """Fork a daemon for each program that connects, as long as the parent lives."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener.settimeout(PARENT_CHECK_S)
    while os.getppid() == parent:
        try:
            link, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            _serve(link)
            os._exit(0)
        link.close()


def _serve(link: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(link, 4, 3)
    text = bytearray()
    while len(text) < int.from_bytes(head, "big"):
        text += link.recv(1 << 16)
    request = json.loads(text)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    become(request["environment"], Path(request["folder"]))
    sys.argv = [MODULE, *request["words"]]
    from spinney.local import python_daemon

    python_daemon._start()


def become(environment: Mapping[str, str], folder: Path) -> None:
    """Give this process these variables, what Python reads of them, and a folder."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [each for each in path if each and each not in sys.path]
