from __future__ import annotations

import zipfile
from pathlib import Path

from spinney.local.python_daemon import PACKAGES, without_archives


def installed(folder: Path) -> str:
    for package in PACKAGES:
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    return str(folder)


def archive(file: Path) -> str:
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(f"{PACKAGES[0]}/__init__.py", "")
    return str(file)


def test_the_archives_of_spark_leave_the_path_and_the_rest_keeps_its_order(tmp_path: Path) -> None:
    site = installed(tmp_path / "site")
    named = ("pyspark.zip", "py4j-0.10.9.9-src.zip", "spark-core_2.13-4.1.3.jar")
    archives = [archive(tmp_path / name) for name in named]
    mine = archive(tmp_path / "spark-core-features.zip")

    assert without_archives(["/work", *archives, mine, site]) == ["/work", mine, site]


def test_the_archives_stay_where_nothing_else_holds_the_packages(tmp_path: Path) -> None:
    path = [archive(tmp_path / "pyspark.zip"), str(tmp_path / "empty")]

    assert without_archives(path) == path
