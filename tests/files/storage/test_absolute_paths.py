from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from handwritten_history import fleet_toml

from spinney.core.errors import ConfigError
from spinney.storage.config_file import read_config

TEXT = fleet_toml("work/sales")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; the configuration lies in another one, `project`."""
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def written(here: Path, text: str = TEXT, folder: str = "project") -> Path:
    file = here.parent / folder / "fleet.toml"
    file.parent.mkdir()
    file.write_text(text)
    return file


def root_of(file: Path, environment: dict[str, str] | None = None) -> str:
    return read_config(file, environment or {}).storage.root


def test_a_relative_root_starts_at_the_folder_of_the_file_from_wherever_it_is_read(here: Path) -> None:
    file = written(here)
    assert root_of(file) == root_of(Path("../project/fleet.toml")) == str(here.parent / "project/work/sales")
    os.chdir(file.parent)
    assert root_of(Path("fleet.toml")) == str(here.parent / "project/work/sales")


def test_a_relative_root_of_the_environment_starts_at_the_current_folder(here: Path) -> None:
    assert root_of(written(here), {"SPINNEY_STORAGE__ROOT": "work/mine"}) == str(here / "work/mine")


@pytest.mark.parametrize(
    ("root", "leads"),
    [
        ("~/fleets/sales", "/home/ada/fleets/sales"),
        ("~", "/home/ada"),
        ("/srv/fleets/sales", "/srv/fleets/sales"),
        ("file:///srv/fleets/sales", "file:///srv/fleets/sales"),
    ],
)
def test_home_and_absolute_folders_are_the_same_from_the_file_and_from_the_environment(
    here: Path, root: str, leads: str
) -> None:
    file = written(here, TEXT.replace("work/sales", root))
    assert root_of(file) == leads
    file.write_text(TEXT)
    assert root_of(file, {"SPINNEY_STORAGE__ROOT": root}) == leads


def test_the_folder_above_is_named_without_dots(here: Path) -> None:
    assert root_of(written(here, TEXT.replace("work/sales", "../work/sales"))) == str(here.parent / "work/sales")


def test_what_is_read_from_a_pipe_starts_at_the_current_folder(here: Path) -> None:
    end, start = os.pipe()
    os.write(start, TEXT.encode())
    os.close(start)
    try:
        assert root_of(Path(f"/dev/fd/{end}")) == str(here / "work/sales")
    finally:
        os.close(end)


def test_the_home_of_nobody_is_refused_with_its_line(here: Path) -> None:
    file = written(here, TEXT.replace("work/sales", "~nobody-of-this-name/sales"))
    text = rf"{re.escape(str(file))}:18: storage.root: expected a home folder; got none for ~nobody.*whole path"
    with pytest.raises(ConfigError, match=text):
        root_of(file)


def test_a_project_folder_whose_path_cannot_be_used_is_refused(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"storage.root: expected a path without %.*project #1/work/sales"):
        root_of(written(here, folder="project #1"))


@pytest.mark.parametrize(
    ("uri", "leads"),
    [
        ("sqlite:///work/mlflow.db", "sqlite:///{project}/work/mlflow.db"),
        ("sqlite:///mlflow.db?timeout=3", "sqlite:///{project}/mlflow.db?timeout=3"),
        ("sqlite:///~/mlflow.db", "sqlite:////home/ada/mlflow.db"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("databricks", "databricks"),
    ],
)
def test_an_sqlite_file_of_mlflow_starts_where_the_root_does(here: Path, uri: str, leads: str) -> None:
    file = written(here, f'{TEXT}[tracking]\nuri = "{uri}"\n')
    assert read_config(file, {}).tracking.uri == leads.format(project=file.parent)


def test_the_default_of_tracking_starts_at_the_folder_of_the_file(here: Path) -> None:
    file = written(here)
    assert read_config(file, {}).tracking.uri == f"sqlite:///{file.parent}/work/mlflow.db"


def test_the_value_in_effect_is_the_whole_path_and_its_origin_the_line(here: Path) -> None:
    file = written(here)
    shown = {setting.key: setting for setting in read_config(file, {}).effective()}["storage.root"]
    assert (shown.value, shown.origin) == (f'"{file.parent}/work/sales"', f"{file}:18")
