from __future__ import annotations

from pathlib import Path

from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.storage.signing_key import KEY, load_signer
from spinney.tables import lookup
from spinney.testing import new_fleet

EXAMPLE = Path(__file__).parents[3] / "examples" / "flights" / "fleet.toml"


def test_a_new_fleet_has_every_table_and_a_key_in_the_folder_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    config = new_fleet(EXAMPLE, tmp_path)
    store = FleetStore.of(config)
    assert store.folder.parent == tmp_path
    assert {base.name: lookup.count_rows(store, base) for base in tables.ALL} == {base.name: 0 for base in tables.ALL}
    assert load_signer(store).key
    assert config.tracking.mode == "off"


def test_the_fleet_of_the_file_is_left_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    (tmp_path / "fleet.toml").write_text(EXAMPLE.read_text())
    first, second = (new_fleet(tmp_path / "fleet.toml", tmp_path / name) for name in ("one", "two"))
    assert FleetStore.of(first).root != FleetStore.of(second).root
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fleet.toml", "one", "two"]
    assert load_signer(FleetStore.of(first)) != load_signer(FleetStore.of(second))
