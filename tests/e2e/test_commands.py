"""The commands as a stranger types them: by spark-submit, with a wrong file, without topics; and the demo."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from spinney_process import called, environment

from schemas import tables
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FLEET = """\
[fleet]
name = "tiny"
group = ["shop"]
event_id = "sale_id"
event_time = "sold_at"
target = "amount"
features = ["pieces"]
shards = 2

[fleet.columns]
shop = "string"
pieces = "double"
amount = "double"

[recipe]
min_rows = 5

[kafka]
bootstrap_servers = "{servers}"
events = "{events}"

[storage]
root = "{root}"

[tracking]
mode = "off"
"""
SHOPS, SALES = ("north", "south"), 30


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this virtual environment in `folder`, with its Python first on the PATH, as after `activate`."""
    variables = {**environment(), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [str(BIN / words[0]), *words[1:]]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program, `spinney` within this process and with its Spark session."""
    return called(words[1:], folder) if words[0] == "spinney" else run(folder, *words)


def said_of(done: subprocess.CompletedProcess[str]) -> str:
    """What it said as an error. spark-submit puts both of a program's outputs on its own standard output."""
    return done.stdout if done.args[0].endswith("spark-submit") else done.stderr


def write_fleet(folder: Path, servers: str, **changes: str) -> Path:
    names = {"servers": servers, "events": f"sales-{uuid.uuid4().hex[:8]}", "root": str(folder / "root")}
    text = FLEET.format(**names)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "fleet.toml"
    file.write_text(text, encoding="utf-8")
    return file


def write_sales(folder: Path) -> Path:
    file = folder / "sales.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for shop in SHOPS:
            for at in range(SALES):
                sale = {"sale_id": f"{shop}-{at}", "sold_at": f"2024-05-01T{at // 2:02d}:{at % 2 * 30:02d}:00Z"}
                lines.write(json.dumps({**sale, "shop": shop, "pieces": at % 7, "amount": 3.0 * (at % 7) + 1}) + "\n")
    return file


def test_the_stream_and_the_weekly_batch_run_by_spark_submit(tmp_path: Path, broker: str) -> None:
    file = write_fleet(tmp_path, broker)
    for words in (
        ("spinney", "init", "--config", str(file)),
        ("spinney", "produce", str(write_sales(tmp_path)), "--config", str(file)),
        ("spark-submit", str(ROOT / "streaming" / "app.py"), "--config", str(file), "--once"),
    ):
        done = typed(tmp_path, *words)
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    config = read_config(file, {})
    assert delta.read_table(FleetStore.of(config), tables.EVENTS).num_rows == len(SHOPS) * SALES
    assert delta.read_table(FleetStore.of(config), tables.PREDICTIONS).num_rows == len(SHOPS) * SALES
    fitted = delta.read_table(FleetStore.of(config), tables.ROUNDS).to_pylist()
    assert [(row["kind"], row["groups_in"], row["fitted"]) for row in fitted] == [("stream", 2, 2)]

    done = run(tmp_path, "spark-submit", str(ROOT / "batch" / "weekly.py"), "--config", str(file))
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["kind"], report["groups_in"], report["fitted"] + report["kept"]) == ("batch", 2, 2)


@pytest.mark.parametrize(
    "words",
    [("spinney", "stream", "--once"), ("spark-submit", "streaming/app.py"), ("spark-submit", "batch/weekly.py")],
)
def test_a_wrong_configuration_is_exit_code_2_and_says_where_what_and_the_nearest_name(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = write_fleet(tmp_path, "localhost:9092", min_rows="min_row")
    line = file.read_text(encoding="utf-8").splitlines().index("min_row = 5") + 1
    program = [str(ROOT / word) if word.endswith(".py") else word for word in words]
    done = typed(tmp_path, *program, "--config", str(file))
    assert done.returncode == 2
    reported = said_of(done)
    assert f"{file}:{line}" in reported
    assert "recipe.min_row: expected a key of [recipe]; got `min_row`" in reported
    assert "Did you mean `min_rows`?" in reported
    assert "Traceback" not in reported


@pytest.mark.parametrize("words", [("spinney", "stream"), ("spark-submit", "streaming/app.py")])
def test_a_missing_topic_is_exit_code_1_and_names_the_command_that_makes_it(
    spark: Any, tmp_path: Path, broker: str, words: tuple[str, ...]
) -> None:
    file = write_fleet(tmp_path, broker)
    program = [str(ROOT / word) if word.endswith(".py") else word for word in words]
    done = typed(tmp_path, *program, "--config", str(file), "--once")
    assert done.returncode == 1
    (reported,) = [line for line in said_of(done).splitlines() if line.startswith("spinney: ")]
    assert re.fullmatch(rf"spinney: topic sales-\w+: not on {re.escape(broker)}; run `spinney init`", reported)
    assert "Traceback" not in said_of(done)


def test_a_broker_that_is_not_there_is_exit_code_1_and_names_the_remedy(tmp_path: Path) -> None:
    file = write_fleet(tmp_path, "127.0.0.1:9")
    done = run(tmp_path, "spinney", "init", "--config", str(file))
    assert done.returncode == 1
    output = done.stderr.splitlines()[-1]
    assert output.startswith("spinney: Kafka at 127.0.0.1:9: expected a broker, got ")
    assert "Start one (`spinney kafka`), or correct kafka.bootstrap_servers" in output
    assert (tmp_path / "root" / "signing.key").exists(), "who only loads and retrains needs the key and no broker"


def test_a_proposed_configuration_passes_its_own_check(tmp_path: Path) -> None:
    rows = ["sale_id,sold_at,shop,pieces,amount"]
    for shop in SHOPS:
        rows += [f"{shop}-{at},2024-05-{at + 1:02d}T08:00:00Z,{shop},{at % 7},{at * 1.5}" for at in range(28)]
    (tmp_path / "sales.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    proposed = run(tmp_path, "spinney", "init", "--from", "sales.csv")
    assert proposed.returncode == 0, proposed.stderr
    (tmp_path / "fleet.toml").write_text(proposed.stdout, encoding="utf-8")
    shown = run(tmp_path, "spinney", "check", "--show")
    assert shown.returncode == 0, shown.stderr


def test_the_demo_ends_with_one_json_object_sets_that_add_up_and_a_report_in_one_file(tmp_path: Path) -> None:
    done = run(tmp_path, "spinney", "demo", "--days", "1", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert isinstance(summary, dict)
    assert summary["reconciliation"]["adds_up"] is True
    page = (tmp_path / "work" / "demo" / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    # One file that needs no network: nothing is loaded from anywhere else.
    assert not re.findall(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=[\"']?(?!data:|#)", page)
    assert not re.findall(r"url\((?!['\"]?(?:data:|#))|@import", page)


def test_the_demo_at_scale_refits_the_groups_that_change_and_its_sets_add_up(tmp_path: Path) -> None:
    done = run(tmp_path, "spinney", "demo", "--scale", "--groups", "300", "--seconds", "12", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert summary["reconciliation"]["adds_up"] is True
    assert summary["weekly"]["fitted"] == 300
    assert summary["stream"]["answered"] == summary["stream"]["sent"] == 2_000 * 12
    assert summary["latency"]["n"] == 2_000 * 11
    changed, others = summary["refits"]["changed"], summary["refits"]["others"]
    assert changed["groups"] == 3
    assert changed["by_policy"].get("error_rise", 0) > 0
    assert others["refitted"] < others["groups"] / 10
    assert summary["errors"]["changed"]["old_model"] > 3 * summary["errors"]["changed"]["before"]
    assert summary["errors"]["others"]["old_model"] < 2 * summary["errors"]["others"]["before"]
    stories = [one["story"] for one in summary["refits"]["examples"] if one["policy"] == "error_rise"]
    assert all("evidence of a risen error is" in story for story in stories)
    assert stories
    page = (tmp_path / "work" / "demo-scale" / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
