"""Empty tables of a fleet, without the time that Delta takes to make each."""

from __future__ import annotations

from pathlib import Path

from schemas.contract import Contract
from spinney.storage.layout import FleetStore
from spinney.tables import delta

FIRST_COMMIT = Path("_delta_log") / f"{0:020}.json"
_commits: dict[tuple[str, Contract], bytes] = {}


def create_tables(store: FleetStore) -> None:
    """What `delta.create_tables` does, by copies of its first commits for the same columns: 4 ms in place of 55."""
    wanted = {directory: (directory.name, directory.contract) for directory in store.every_directory()}
    if not (store.folder / "tables").exists() and all(name in _commits for name in wanted.values()):
        for directory, name in wanted.items():
            file = Path(directory.uri) / FIRST_COMMIT
            file.parent.mkdir(parents=True)
            file.write_bytes(_commits[name])
        return
    made = set(delta.create_tables(store))
    for directory, name in wanted.items():
        if directory.name in made:
            _commits[name] = (Path(directory.uri) / FIRST_COMMIT).read_bytes()
