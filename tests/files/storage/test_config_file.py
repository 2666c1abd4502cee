from __future__ import annotations

from pathlib import Path

import pytest

from spinney.core.errors import ConfigError
from spinney.storage.config_file import read_config

EXAMPLE = Path(__file__).parents[3] / "examples" / "flights" / "fleet.toml"


def test_a_file_is_read_and_the_environment_overrides_it() -> None:
    config = read_config(EXAMPLE, {"SPINNEY_KAFKA__BOOTSTRAP_SERVERS": "other:1"})
    assert config.kafka.bootstrap_servers == "other:1"
    assert config.text == EXAMPLE.read_text(encoding="utf-8")


def test_a_mark_at_the_start_of_the_file_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_bytes(b"\xef\xbb\xbf" + EXAMPLE.read_bytes())
    assert read_config(file, {}).fleet.name == "flights"


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file.*spinney init --from"):
        read_config(tmp_path / "fleet.toml", {})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a file that can be read"):
        read_config(tmp_path, {})


def test_what_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_config(file, {})
