"""Rounds in a real MLflow with a real SQLite store, or behind its own server; no Spark session is started."""

from __future__ import annotations

import shutil

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine


@event.listens_for(Engine, "connect")
def _without_waiting_for_the_disk(connection, _) -> None:
    """MLflow commits at each call, and no test turns the power off."""
    connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture
def tracked(world, empty_store, tmp_path):
    """Makes a fleet with an MLflow of its own. more: lines of [tracking]."""

    def make(more: str = ""):
        shutil.copy(empty_store, tmp_path / "mlflow.db")
        text = f'[tracking]\nuri = "sqlite:///{tmp_path}/mlflow.db"\ncalls_per_second = 10000\n{more}\n[storage]'
        return world(("[storage]", text))

    return make


@pytest.fixture
def fleet(tracked):
    return tracked()
