from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from spinney.core.errors import SetupError
from spinney.local.spark_submit_conf import has_only_generated_files, write_defaults
from spinney.spark.session import Runtime

RUNTIME = Runtime(jars=(Path("/cache/a.jar"), Path("/cache/b.jar")), java_home=Path("/cache/my java"))


def test_spark_submit_gets_jars_delta_and_java(tmp_path: Path) -> None:
    defaults = write_defaults(RUNTIME, tmp_path / "conf")
    lines = defaults.read_text().splitlines()
    assert "spark.jars /cache/a.jar,/cache/b.jar" in lines
    assert "spark.sql.extensions io.delta.sql.DeltaSparkSessionExtension" in lines


@pytest.mark.parametrize(("given", "used"), [("", "/cache/my java"), ("/opt/jdk", "/opt/jdk")])
def test_the_java_found_at_set_up_is_used_unless_another_is_given(tmp_path: Path, given: str, used: str) -> None:
    write_defaults(RUNTIME, tmp_path)
    script = f'set -eu; . {tmp_path}/spark-env.sh; printf %s "$JAVA_HOME"'
    done = subprocess.run(["sh", "-c", script], env={"JAVA_HOME": given}, capture_output=True, text=True, check=True)
    assert done.stdout == used


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    defaults = write_defaults(RUNTIME, tmp_path)
    before = defaults.stat().st_mtime_ns
    write_defaults(RUNTIME, tmp_path)
    assert defaults.stat().st_mtime_ns == before


def test_what_was_generated_before_is_replaced(tmp_path: Path) -> None:
    write_defaults(Runtime(jars=(Path("/old.jar"),), java_home=Path("/old")), tmp_path)
    assert "/old" not in write_defaults(RUNTIME, tmp_path).read_text()


def test_a_persons_own_file_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "spark-defaults.conf"
    own.write_text("spark.master yarn\n")
    with pytest.raises(SetupError, match=rf"{own}: somebody's own file is in the way"):
        write_defaults(RUNTIME, tmp_path)
    assert own.read_text() == "spark.master yarn\n"


def test_a_folder_has_only_generated_files_until_a_person_adds_or_edits_one(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    assert has_only_generated_files(folder)
    write_defaults(RUNTIME, folder)
    assert has_only_generated_files(folder)
    (folder / "core-site.xml").write_text("<configuration/>")
    assert not has_only_generated_files(folder)
    (folder / "core-site.xml").unlink()
    (folder / "spark-env.sh").write_text("export HADOOP_CONF_DIR=/etc/hadoop\n")
    assert not has_only_generated_files(folder)
