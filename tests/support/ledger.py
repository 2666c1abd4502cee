"""What was acknowledged against what is stored: as sets of ids, never by subtracting counts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd
from shop import Sent, Shops

from schemas import tables
from spinney.core import keys

IDENTITY = ["group_key", "event_id"]
POSITION = ["topic", "kafka_partition", "kafka_offset"]
OF_A_ROUND = ["round_id", "group_key"]


def differences(shops: Shops) -> list[str]:
    """Everything that is not as it must be once all is drained, in words; empty when the books balance."""
    books = _Books(shops)
    return [
        *books.nothing_twice(),
        *books.records(),
        *books.answers(),
        *books.labels(),
        *books.rounds(),
        *books.topic(),
    ]


def edition_of(charter: dict[str, Any], sent: Sent) -> int:
    """Which edition of the ranges holds for a record: the last whose first offset it has reached."""
    reached = [
        at
        for at, edition in enumerate(charter["editions"])
        if edition["since"].get(sent.topic, {}).get(str(sent.partition), 0) <= sent.offset
    ]
    return reached[-1]


class _Books:
    def __init__(self, shops: Shops) -> None:
        self.shops = shops
        self.events = shops.table(tables.EVENTS, streamed=True)
        self.outcomes = shops.table(tables.OUTCOMES, streamed=True)
        self.dead = shops.table(tables.DEAD_LETTERS)
        self.predictions = shops.table(tables.PREDICTIONS)
        self.health = shops.table(tables.HEALTH)
        self.verdicts = shops.table(tables.VERDICTS)
        self.models = shops.table(tables.MODELS)
        self.promotions = shops.table(tables.PROMOTIONS)
        self.recorded = shops.table(tables.ROUNDS)
        self.charter = json.loads((shops.root / "charter.json").read_text())

    def nothing_twice(self) -> Iterable[str]:
        yield from twice("events", self.events, IDENTITY)
        yield from twice("outcomes", self.outcomes, IDENTITY)
        yield from twice("dead_letters", self.dead, POSITION)
        yield from twice("predictions", self.predictions, IDENTITY)
        yield from twice("verdicts", self.verdicts, OF_A_ROUND)
        yield from twice("models", self.models, OF_A_ROUND)
        yield from twice("models", self.models.dropna(subset=["model_id"]), ["round_id", "model_id"])
        yield from twice("promotions", self.promotions, [*OF_A_ROUND, "model_id", "decision"])
        yield from twice("rounds", self.recorded, ["round_id"])

    def records(self) -> Iterable[str]:
        """Acknowledged = stored and dead together, each where it belongs by the ranges that held at its offset."""
        valid: dict[str, set[Hashable]] = defaultdict(set)
        dead: dict[Hashable, str] = {}
        for sent in self.shops.ledger:
            edition = edition_of(self.charter, sent)
            if edition < sent.edits:
                yield f"{sent.position} was sent after edit {sent.edits} and validated by edition {edition}"
            low, high = self.charter["editions"][edition]["ranges"]["x"]
            if sent.bad:
                dead[sent.position] = sent.bad
            elif sent.x is not None and not low <= sent.x <= high:
                dead[sent.position] = "out_of_range"
            else:
                valid[sent.topic].add(sent.identity)
        yield from apart("events", valid[f"{self.shops.name}.events"], identities(self.events))
        yield from apart("outcomes", valid[f"{self.shops.name}.outcomes"], identities(self.outcomes))
        stored = {tuple(row[:3]): row[3] for row in self.dead[[*POSITION, "reason"]].itertuples(index=False, name=None)}
        yield from apart("dead_letters", set(dead.items()), set(stored.items()))
        sent_bytes = {sent.position: sent.value for sent in self.shops.ledger}
        for row in self.dead.itertuples(index=False):
            if row.value != sent_bytes.get((row.topic, row.kafka_partition, row.kafka_offset)):
                yield f"dead_letters: the bytes of {row.topic} {row.kafka_partition} {row.kafka_offset} were changed"

    def answers(self) -> Iterable[str]:
        yield from apart("predictions", identities(self.events), identities(self.predictions))
        owner = dict(zip(self.models["model_id"], self.models["group_key"], strict=True))
        fleet = self.shops.config.fleet
        for row in self.predictions.dropna(subset=["model_id"]).itertuples(index=False):
            if owner.get(row.model_id) not in (
                row.group_key,
                *keys.ancestors(fleet.group, fleet.parents, row.group_key),
            ):
                yield f"{row.event_id} of {row.group_key} was answered by a model of {owner.get(row.model_id)}"

    def labels(self) -> Iterable[str]:
        matched = identities(self.outcomes) & identities(self.predictions)
        expected = Counter(key for key, _ in matched)
        yield from apart("health.labelled", set(expected.items()), self.summed("labelled"))
        yield from apart("health.rows", set(Counter(self.predictions["group_key"]).items()), self.summed("rows"))

    def summed(self, column: str) -> set[Hashable]:
        sums = self.health.groupby("group_key")[column].sum()
        return {(key, int(value)) for key, value in sums.items() if value}

    def rounds(self) -> Iterable[str]:
        """Planned = fitted and kept together, one decision a model, and counts that are those of the rows."""
        plan = self.verdicts[self.verdicts["decision"] == "fit"]
        kept, found_there = self.kept()
        attempted = groups(self.models) | groups(kept)
        yield from apart("planned groups", groups(plan), attempted)
        answering = self.promotions[self.promotions["decision"].isin(["promoted", "unproven"])]
        for row in found_there.itertuples(index=False):
            same = (answering["group_key"] == row.group_key) & (answering["model_id"] == row.model_id)
            if not (same & (answering["by"] != row.by)).any():
                yield f"fitted, kept, and not promoted by the other path: {row.round_id} {row.group_key}"
        fitted = self.models[self.models["status"] == "fitted"]
        withdrawn = self.promotions[self.promotions["decision"] == "withdrawn"]
        by_round = self.promotions["by"].isin(["stream", "batch"]) & ~self.promotions.index.isin(withdrawn.index)
        decided = pd.concat([self.promotions[by_round & (self.promotions["decision"] != "kept")], found_there])
        yield from apart("decisions", pairs(fitted), pairs(decided))
        yield from apart(
            "rounds", set(plan["round_id"]), set(self.recorded.loc[self.recorded["groups_in"] > 0, "round_id"])
        )
        for row in self.recorded.itertuples(index=False):
            mine = self.models[self.models["round_id"] == row.round_id]
            status = Counter(mine["status"])
            of_rows = (
                status["fitted"],
                status["failed"] + status["timed_out"],
                status["too_few_rows"],
                int((kept["round_id"] == row.round_id).sum()),
            )
            if of_rows != (row.fitted, row.failed, row.too_few_rows, row.kept):
                yield f"round {row.round_id} says {(row.fitted, row.failed, row.too_few_rows, row.kept)}: {of_rows}"
            if int((withdrawn["round_id"] == row.round_id).sum()) != (row.withdrawn or 0):
                yield f"round {row.round_id} says {row.withdrawn} champions were withdrawn"
            if row.groups_in != sum(of_rows) + row.deferred:
                yield f"round {row.round_id}: {row.groups_in} groups went in, {sum(of_rows)} + {row.deferred} came out"

    def kept(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Groups that were not fitted; and fitted ones whose very model the other path had promoted meanwhile."""
        kept = self.promotions[self.promotions["decision"] == "kept"]
        attempts = groups(self.models)
        reported = zip(kept["round_id"], kept["group_key"], strict=True)
        was_fitted = pd.Series([each in attempts for each in reported], index=kept.index, dtype=bool)
        return kept[~was_fitted], kept[was_fitted]

    def topic(self) -> Iterable[str]:
        """The predictions topic is at least once; a copy is equal byte for byte."""
        reported = answers_by_id(self.shops)
        yield from apart("predictions topic", identities(self.predictions), set(reported))
        for identity, copies in reported.items():
            if len(set(copies)) > 1:
                yield f"predictions topic: copies of {identity} differ: {sorted(set(copies))}"


def answers_by_id(shops: Shops) -> dict[Hashable, list[bytes]]:
    """Identity -> every copy of its answer on the predictions topic."""
    found: dict[Hashable, list[bytes]] = defaultdict(list)
    for value in shops.predictions():
        report = json.loads(value)
        found[report["group_key"], report["event_id"]].append(value)
    return found


def twice(name: str, rows: pd.DataFrame, identity: list[str]) -> Iterable[str]:
    copies = rows[rows.duplicated(identity)]
    if len(copies):
        yield f"{name}: twice: {copies[identity].to_numpy().tolist()[:3]} and {len(copies)} in all"


def apart(name: str, wanted: set[Any], found: set[Any]) -> Iterable[str]:
    if missing := wanted - found:
        yield f"{name}: missing: {sorted(missing, key=str)[:3]} and {len(missing)} in all"
    if extra := found - wanted:
        yield f"{name}: more than there should be: {sorted(extra, key=str)[:3]} and {len(extra)} in all"


def identities(rows: pd.DataFrame) -> set[Any]:
    return set(zip(rows["group_key"], rows["event_id"], strict=True))


def groups(rows: pd.DataFrame) -> set[Any]:
    return set(zip(rows["round_id"], rows["group_key"], strict=True))


def pairs(rows: pd.DataFrame) -> set[Any]:
    return set(zip(rows["round_id"], rows["group_key"], rows["model_id"], strict=True))
