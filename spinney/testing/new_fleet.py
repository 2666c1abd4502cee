"""An empty fleet in a folder of a test."""

from __future__ import annotations

import os

from spinney.core.config import Config
from spinney.storage import charter, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.testing.config_argument import config_of


def new_fleet(config: Config | str | os.PathLike[str], folder: str | os.PathLike[str]) -> Config:
    """Create a fleet's tables, charter and signing key below a folder, as `spinney init` does.

    config: the configuration, or its file. Returns it with `storage.root` in that folder and tracking off. No broker,
    Spark or MLflow is needed. Raises ConfigError, StoreError.
    """
    read = config_of(config)
    storage = read.storage.model_copy(update={"root": os.path.join(os.path.abspath(folder), "fleet")})  # noqa: PTH100, PTH118
    tracking = read.tracking.model_copy(update={"mode": "off"})
    made = read.model_copy(update={"storage": storage, "tracking": tracking})
    store = FleetStore.of(made)
    charter.ensure_charter(store)
    delta.create_tables(store)
    signing_key.ensure_key(store)
    return made
