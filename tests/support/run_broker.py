"""One Kafka broker for all processes of a run of pytest-xdist. Each would otherwise start its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest
from waiting import wait_until

from spinney.local.broker import Broker

INPUT = "broker_file"
"""Name of the value by which a process of xdist learns the file with the broker's address."""

FOLDERS = ("tests/e2e/", "tests/kafka/")


class RunBroker:
    """Plugin of the process that distributes the tests. It starts the broker if tests need one, and stops it last."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="spinney-broker-")
        self._broker = Broker(Path(self._folder.name) / "data")
        self._file = Path(self._folder.name) / "address.json"
        self._starting: Thread | None = None

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a process, before it starts, where to find the address."""
        node.workerinput[INPUT] = str(self._file)

    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Start the broker in a thread once the first process knows its tests."""
        if self._starting is None and any(each.startswith(FOLDERS) for each in ids):
            self._starting = Thread(target=self._start)
            self._starting.start()

    def _start(self) -> None:
        try:
            found = {"servers": self._broker.start().bootstrap_servers}
        except Exception as error:
            found = {"error": str(error)}
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(found), encoding="utf-8")
        part.replace(self._file)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Stop the broker after the processes have ended."""
        if self._starting is not None:
            self._starting.join()
        self._broker.stop()
        self._folder.cleanup()


def read_address(file: Path) -> str:
    """Wait for the broker. Returns its bootstrap servers."""
    wait_until(file.exists)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert "servers" in found, found["error"]
    return str(found["servers"])
