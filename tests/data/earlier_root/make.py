"""Make `root.tar.gz`: a small fleet as the version of Spinney in another checkout writes it, and what it answers.

    git worktree add /tmp/earlier COMMIT
    python tests/data/earlier_root/make.py /tmp/earlier tests/data/earlier_root/root.tar.gz

The archive holds `fleet.toml`, the fleet's root, `registered/` (a registered version as MLflow stores it),
`topics.jsonl` (every record of its topics) and `expected.json` (what its commands and `Fleet.predict` said).
Only commands and `spinney.Fleet` are called, so that the script runs with any version.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

FLEET = """\
[fleet]
name = "earlier"
group = ["region", "shop"]
parents = [["region"], []]
event_id = "event_id"
event_time = "at"
target = "sales"
task = "regression"
loss = "absolute"
features = ["x", "promo", "at"]
label_delay = "1h"
clock = "event"
shards = 2

[fleet.columns]
region = "string"
shop = "int"
x = "double"
promo = "boolean"
sales = "double"

[fleet.ranges]
x = [-100.0, {high}]

[recipe]
estimator = {estimator}
min_rows = 10
window = "365d"

[staleness]
new_rows = 8
max_age = "365d"

[gate]
evidence = 3

[kafka]
bootstrap_servers = "{broker}"
events = "earlier.events"
outcomes = "earlier.outcomes"
predictions = "earlier.predictions"
duplicates_within = "2h"
label_horizon = "24h"

[storage]
root = "root"

[tracking]
mode = "off"
uri = "sqlite:///mlflow.db"

[spark]
"spark.sql.shuffle.partitions" = "2"
"""
ESTIMATORS = """\
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def scaled():
    return make_pipeline(StandardScaler(), Ridge())


def neighbours():
    return KNeighborsRegressor(n_neighbors=3, algorithm="kd_tree")
"""
PREDICT = """\
import json, sys
import pandas as pd
from spinney import Fleet
rows = pd.DataFrame(json.load(open(sys.argv[2])))
answers = Fleet.open(sys.argv[1]).predict(rows)
print(json.dumps(answers.astype(object).where(answers.notna(), None).to_dict("records")))
"""
START = datetime(2024, 3, 1, tzinfo=UTC)
PORT = 9217
SHOPS = [("north", 1), ("north", 2), ("south", 3), ("south", 4)]
NEWCOMER = ("south", 5)
CHOSEN = {
    ("north", 2): '"seasonal"',
    ("south", 3): '"my_estimators:scaled"',
    ("south", 4): '"my_estimators:neighbours"',
}
"""Shop -> the estimator of its champion; the others have ridge."""
TOPICS = ("earlier.events", "earlier.outcomes", "earlier.predictions")


def sale(event_id: str, region: str, shop: int, x: float | None, minutes: float) -> dict[str, Any]:
    at = (START + timedelta(minutes=minutes)).isoformat()
    return {"event_id": event_id, "region": region, "shop": shop, "at": at, "x": x, "promo": shop % 2 == 0}


def label(row: Mapping[str, Any]) -> float:
    return 10.0 * row["shop"] * (row["x"] or 0.0) + row["shop"]


def key(who: tuple[str, int]) -> str:
    return json.dumps([who[0], str(who[1])], separators=(",", ":"))


class Earlier:
    """The fleet in a folder, run by the code of a checkout."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.folder = folder
        self.broker = f"127.0.0.1:{PORT}"
        self.environment = {**os.environ, "PYTHONPATH": f"{checkout}:{folder}"}
        (folder / "my_estimators.py").write_text(ESTIMATORS)
        self.configure()

    def configure(self, estimator: str = '"ridge"', high: float = 100.0) -> None:
        """Write fleet.toml. high: the greatest valid `x`."""
        (self.folder / "fleet.toml").write_text(FLEET.format(estimator=estimator, broker=self.broker, high=high))

    def python(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in codes:
            sys.exit(f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def spinney(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        sys.stderr.write(f"spinney {' '.join(arguments)}\n")
        return self.python("-c", "from spinney.cli import main; main()", *arguments, codes=codes)

    @contextmanager
    def kafka(self) -> Iterator[None]:
        command = [sys.executable, "-c", "from spinney.cli import main; main()", "kafka", "--port", str(PORT), "--json"]
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            while '"ready"' not in (line := process.stdout.readline()):
                assert line, "the broker ended"
            yield
        finally:
            process.terminate()
            process.wait()

    def send(self, topic: str, rows: list[Mapping[str, Any] | bytes]) -> None:
        producer = Producer({"bootstrap.servers": self.broker})
        for row in rows:
            if isinstance(row, bytes):
                producer.produce(topic, row)
            else:
                producer.produce(topic, json.dumps(row).encode(), key((row["region"], row["shop"])).encode())
        assert producer.flush(30) == 0

    def records(self) -> list[dict[str, Any]]:
        """Every record of the topics, in the order of their offsets; the topics have one partition."""
        consumer = Consumer({"bootstrap.servers": self.broker, "group.id": "make", "enable.partition.eof": True})
        found = []
        for topic in TOPICS:
            consumer.assign([TopicPartition(topic, 0, 0)])
            while (message := consumer.poll(30)) is not None and not message.error():
                texts = {name: None if part is None else part.decode() for name, part in
                         (("key", message.key()), ("value", message.value()))}  # fmt: skip
                headers = [[name, value.decode()] for name, value in message.headers() or ()]
                found.append({"topic": topic, **texts, "timestamp": message.timestamp()[1], "headers": headers})
        consumer.close()
        return found


def history() -> list[dict[str, Any]]:
    rows = []
    for region, shop in SHOPS:
        for n in range(40):
            x = None if n % 13 == 5 else float(n % 11 - 5)
            row = sale(f"h-{region}-{shop}-{n}", region, shop, x, 45.0 * n)
            rows.append({**row, "sales": label(row)})
    rows[7]["x"] = 1000.0  # out of range
    rows[9]["at"] = "yesterday"
    return rows


def outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    at = datetime.fromisoformat(row["at"]) + timedelta(hours=1)
    return {
        **{name: row[name] for name in ("event_id", "region", "shop")},
        "sales": label(row),
        "observed_at": at.isoformat(),
    }


def live(fleet: Earlier) -> None:
    """History, a batch, other recipes, people, a stream in two runs, an edit of the ranges between them."""
    fleet.spinney("init", "--partitions", "1")
    (fleet.folder / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in history()))
    fleet.spinney("load", "history.jsonl", codes=(0, 1))
    fleet.spinney("retrain", "--all")
    for who, estimator in CHOSEN.items():
        fleet.configure(estimator)
        fleet.spinney("retrain", "--group", key(who), "--unproven")
        promote_newest(fleet, who)
    fleet.configure()
    fleet.spinney("pin", "north", "1", "--reason", "audited", "--by", "ada", "--yes")
    first = [sale(f"a-{shop}-{n}", region, shop, float(n), 2000.0 + n)
             for region, shop in (*SHOPS, NEWCOMER) for n in range(3)]  # fmt: skip
    fleet.send("earlier.events", [*first, b"no JSON", {**first[0], "event_id": "far", "x": 1e9}])
    fleet.send("earlier.outcomes", [outcome(row) for row in first[:9]])
    fleet.spinney("stream", "--once")
    fleet.configure(high=2e9)
    fleet.spinney("dead-letters", "replay", "--reason", "out_of_range", "--yes", codes=(0, 1))
    second = [sale(f"b-{n}", *NEWCOMER, float(n % 7), 2060.0 + n) for n in range(14)]
    fleet.send("earlier.events", [*second, sale("tick", "north", 1, 0.0, 2400.0)])
    fleet.send("earlier.outcomes", [outcome(row) for row in second])
    fleet.spinney("stream", "--once")
    fleet.spinney("unpin", "north", "1", "--reason", "settled", "--by", "ada", "--yes")


def promote_newest(fleet: Earlier, who: tuple[str, int]) -> None:
    """Let a person promote the model that was fitted last, where the gate has not."""
    story = json.loads(fleet.spinney("why", who[0], str(who[1]), "--json"))
    newest = [each["model_id"] for each in story["happened"] if each["what"] == "fitted"][-1]
    if story["standing"]["model_id"] != newest:
        arguments = ("--model", newest, "--reason", "its estimator is tried", "--by", "ada", "--yes")
        fleet.spinney("promote", who[0], str(who[1]), *arguments)


def expected(fleet: Earlier) -> dict[str, Any]:
    """What this version says of the fleet."""
    asked = [
        sale("", *who, x, 2500.0 + 97 * n)
        for who in (*SHOPS, NEWCOMER, ("west", 9))
        for n, x in enumerate((0.5, None, -3.25))
    ]
    for row in asked:
        del row["event_id"]
    (fleet.folder / "asked.json").write_text(json.dumps(asked))
    keys = [*map(key, (*SHOPS, NEWCOMER)), '{"region":"north"}', "{}"]
    return {
        "fleet": json.loads(fleet.spinney("fleet", "--json")),
        "as_of": json.loads(fleet.spinney("fleet", "--as-of", "batch-0", "--json")),
        "why": {each: json.loads(fleet.spinney("why", each, "--json")) for each in keys},
        "asked": asked,
        "answers": json.loads(fleet.python("-c", PREDICT, "fleet.toml", "asked.json")),
    }


def main(checkout: Path, archive: Path) -> None:
    """Make the archive in a temporary folder; $KEEP: or in this one, which stays."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.environ.get("KEEP", temporary))
        folder.mkdir(exist_ok=True)
        fleet = Earlier(checkout, folder)
        with fleet.kafka():
            live(fleet)
            fleet.spinney("register")
            records = fleet.records()
        (folder / "topics.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records))
        (folder / "expected.json").write_text(json.dumps(expected(fleet), indent=1))
        (model,) = folder.glob("**/MLmodel")
        shutil.copytree(model.parent, folder / "registered")
        names = ("fleet.toml", "my_estimators.py", "root", "registered", "topics.jsonl", "expected.json")
        with tarfile.open(archive, "w:gz") as tar:
            for name in names:
                tar.add(folder / name, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
