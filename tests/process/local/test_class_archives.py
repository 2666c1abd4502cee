from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from spinney.local import java
from spinney.local.class_archives import ArchiveUse, archive_file, broker_options, empty_conf_folder, spark_archive
from spinney.spark.class_archive_options import CONF_FOLDER_VARIABLE, ClassArchiveOptions, spark_conf_folder
from spinney.spark.session import DRIVER_CLASS_PATH, DRIVER_JAVA_OPTIONS, Runtime
from spinney.spark.session import _local_settings as local_settings
from spinney.spark.session import _with_user_settings as with_user_settings

ARCHIVE = ClassArchiveOptions(('"-XX:SharedArchiveFile=/spark home/spark.jsa"',), Path("/spark home/conf"))
RUNTIME = Runtime((Path("/cache/a.jar"), Path("/cache/b.jar")), Path("/java"), ARCHIVE)


def put_archives(home: Path, content: bytes = b"") -> None:
    empty_conf_folder(home).mkdir(parents=True)
    for use in ArchiveUse:
        archive_file(use, home).write_bytes(content)


def test_without_archives_no_option_names_one(tmp_path: Path) -> None:
    assert spark_archive(tmp_path) is None
    assert broker_options(tmp_path) == ()


def test_archives_are_used_once_they_are_written(tmp_path: Path) -> None:
    put_archives(tmp_path)
    found = spark_archive(tmp_path)
    assert found is not None
    assert f'"-XX:SharedArchiveFile={archive_file(ArchiveUse.SPARK, tmp_path)}"' in found.java_options
    assert list(found.conf_folder.iterdir()) == []
    assert f"-XX:SharedArchiveFile={archive_file(ArchiveUse.BROKER, tmp_path)}" in broker_options(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive" * 1000])
def test_java_runs_without_a_word_where_an_archive_is_damaged(tmp_path: Path, content: bytes) -> None:
    put_archives(tmp_path, content)
    command = [java.find(os.environ).executable, *broker_options(tmp_path), "-version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "version" in done.stderr.splitlines()[0]
    assert "archive" not in done.stderr


def test_the_jvm_gets_the_options_of_the_archive_and_every_jar_on_its_class_path() -> None:
    settings = local_settings(RUNTIME, 2)
    assert ARCHIVE.java_options[0] in settings[DRIVER_JAVA_OPTIONS]
    assert settings[DRIVER_CLASS_PATH] == "/cache/a.jar:/cache/b.jar"
    assert "spark.jars" not in settings  # jars of the user's are added, not taken instead


def test_a_class_path_of_the_users_comes_after_ours() -> None:
    requested = {DRIVER_CLASS_PATH: "/my/c.jar"}
    assert with_user_settings(local_settings(RUNTIME, 2), requested)[DRIVER_CLASS_PATH] == (
        "/cache/a.jar:/cache/b.jar:/my/c.jar"
    )
    assert with_user_settings({}, requested)[DRIVER_CLASS_PATH] == "/my/c.jar"


def test_spark_gets_the_empty_folder_while_it_starts_and_whoever_starts_later_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(CONF_FOLDER_VARIABLE, raising=False)
    with spark_conf_folder(ARCHIVE):
        assert os.environ[CONF_FOLDER_VARIABLE] == "/spark home/conf"
    assert CONF_FOLDER_VARIABLE not in os.environ


def test_the_users_own_folder_of_settings_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONF_FOLDER_VARIABLE, "/etc/spark")
    with spark_conf_folder(ARCHIVE):
        assert os.environ[CONF_FOLDER_VARIABLE] == "/etc/spark"
    assert os.environ[CONF_FOLDER_VARIABLE] == "/etc/spark"
