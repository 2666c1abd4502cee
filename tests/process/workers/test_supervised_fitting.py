"""Whatever one group's estimator does to its process, its row says so and every other group has its model."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from misbehaving import HELD, Moody, Trouble
from recipes import RIDGE
from sklearn.ensemble import HistGradientBoostingRegressor

from schemas.vocabulary import Decision
from spinney.core.champions.gate import UncomparedPolicy, decide
from spinney.core.config.sections import Gate
from spinney.core.errors import ConfigError, ContractError
from spinney.core.models import codec
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe, Shadow
from spinney.core.training import current_group, fit_kernels
from spinney.core.training.fitting import fit_groups
from spinney.core.training.linear_kernel import LinearKernel
from spinney.core.training.loaded_parent_models import UNREAD_PRIOR
from spinney.retraining.fitting.fit_request_table import PARENT_COLUMNS, STORED_MODEL_TYPES
from spinney.workers import supervised_fitting
from spinney.workers.group_block import MAX_PIECE_AFTER_DEATH, FitTables, GroupBlock, cut_pieces
from spinney.workers.supervised_fitting import (
    MAX_COMPARISON_DEATHS,
    MAX_GROUPS_GIVEN_UP,
    NOT_TRIED_PREFIX,
    TRUSTED_AFTER,
    FitSettings,
    SupervisedFitter,
    attributed_group,
)
from spinney.workers.worker_process import Limits, WorkerChannel, WorkerDied

START = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
FEATURES = (Feature("x", "double"), Feature("trouble", "int"))
RECIPE = replace(RIDGE, estimator="misbehaving:moody", params=(), features=FEATURES)
RIDGE_OF_ALL = replace(RECIPE, estimator="ridge")
LIMITS = Limits(time_limit_s=1.5, memory_limit_bytes=256 << 20)
PATIENT = replace(LIMITS, time_limit_s=30.0)
COSTS = {
    Trouble.RAISES: ("failed", "ZeroDivisionError", "one by nothing \\udc80"),
    Trouble.RAISES_IN_WORDS: ("failed", "RuntimeError", "no words (while it was fitted)"),
    Trouble.NOT_A_NUMBER: ("failed", "NotFinite", "answered NaN or infinity"),
    Trouble.WARNS: ("fitted", None, ""),
    Trouble.PRINTS: ("fitted", None, ""),
    Trouble.FORKS: ("fitted", None, ""),
    Trouble.SYS_EXIT: ("failed", "SystemExit", "SystemExit(enough) was raised while it was fitted"),
    Trouble.INTERRUPTS: ("failed", "KeyboardInterrupt", "An estimator must raise an error, not exit"),
    Trouble.OS_EXIT: ("failed", "Exited", "ended with code 3 while it was fitted"),
    Trouble.OS_EXIT_0: ("failed", "Exited", "ended with code 0 while it was fitted"),
    Trouble.CLOSES_ALL: ("failed", "Exited", "ended with code 1 while its model was stored"),
    Trouble.ALLOCATES: ("failed", "MemoryError", "raise recipe.memory_limit_mib"),
    Trouble.LEAKS: ("failed", "MemoryError", "raise recipe.memory_limit_mib"),
    Trouble.FAULTS: ("failed", "Killed", "SIGSEGV while it was fitted: a fault in compiled code"),
    Trouble.ABORTS: ("failed", "Killed", "SIGABRT while it was fitted: a fault in compiled code"),
    Trouble.KILLED: ("failed", "Killed", "SIGKILL while it was fitted: out of memory, or by itself"),
    Trouble.TERMINATED: ("failed", "Killed", "SIGTERM while it was fitted: by itself or by hand"),
    Trouble.DIES_IN_ANSWERS: ("failed", "Killed", "SIGKILL while its new model was asked"),
    Trouble.SLEEPS: ("timed_out", "TimedOut", "no end within 1.5 s (recipe.time_limit) while it was fitted"),
    Trouble.HANGS_IN_C: ("timed_out", "TimedOut", "no end within 1.5 s (recipe.time_limit) while it was fitted"),
    Trouble.HANGS_IN_ANSWERS: ("timed_out", "TimedOut", "while its new model was asked; its process was killed"),
}
ENDS = [trouble for trouble in COSTS if COSTS[trouble][1] in {"Killed", "Exited", "SystemExit", "KeyboardInterrupt"}]


def rows_of(key: str, trouble: int = 0, n: int = 12) -> pd.DataFrame:
    random = np.random.default_rng([*key.encode()])
    frame = pd.DataFrame({"x": random.normal(size=n), "trouble": trouble})
    frame["label"] = 3 * frame["x"] + random.normal(size=n) * 0.1
    frame.insert(0, "group_key", key)
    frame.insert(1, "event_id", [f"e{i:03}" for i in range(n)])
    frame.insert(
        2, "event_time", pd.Series([START + timedelta(hours=i) for i in range(n)]).astype("datetime64[us, UTC]")
    )
    return frame


def keys(n: int) -> list[str]:
    return [f'["g{g:03}"]' for g in range(n)]


def fleet(troubles: list[int]) -> pd.DataFrame:
    each = zip(keys(len(troubles)), troubles, strict=True)
    return pd.concat([rows_of(key, trouble) for key, trouble in each], ignore_index=True)


def fit_requests(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"group_key": rows["group_key"].unique()})


def block(rows: pd.DataFrame, asked: pd.DataFrame | None = None) -> FitTables:
    """As a task hands it to a worker."""
    asked = fit_requests(rows) if asked is None else asked
    names = [*STORED_MODEL_TYPES, *(name for name in PARENT_COLUMNS if name in asked)]
    asked = asked.reindex(columns=["group_key", *names]).astype(object)
    return FitTables(*(pa.Table.from_pandas(frame, preserve_index=False) for frame in (rows, asked)))


def fitted(
    rows: pd.DataFrame, asked: pd.DataFrame | None = None, recipe: Recipe = RECIPE, limits: Limits = PATIENT
) -> pd.DataFrame:
    """In the order of the requests, however the pieces came."""
    with closing(SupervisedFitter(FitSettings(recipe, CLOCK, SIGNER, limits))) as supervising:
        pieces = supervising.fit(block(rows, asked))
    order = np.argsort([place for piece, _ in pieces for place in piece])
    return (
        pd.concat([frame.astype(object) for _, frame in pieces], ignore_index=True).iloc[order].reset_index(drop=True)
    )


def plain(rows: pd.DataFrame, asked: pd.DataFrame | None = None, recipe: Recipe = RECIPE) -> pd.DataFrame:
    return fit_groups(rows, fit_requests(rows) if asked is None else asked, recipe, CLOCK, SIGNER).astype(object)


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    columns = [name for name in left.columns if name != "fit_ms"]
    pd.testing.assert_frame_equal(left[columns].reset_index(drop=True), right[columns].reset_index(drop=True))


class Given(Sequence[list[list[int]]]):
    """The pieces that each worker was given, in the order in which they began, as the workers themselves noted them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, pieces: list[list[int]]) -> None:
        with self._path.open("a") as file:
            file.write(f"{json.dumps(pieces)}\n")

    def _read(self) -> list[list[list[int]]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def __getitem__(self, at: Any) -> Any:
        return self._read()[at]

    def __len__(self) -> int:
        return len(self._read())

    def __eq__(self, other: object) -> bool:
        return self._read() == other

    def __repr__(self) -> str:
        return repr(self._read())

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Given:
    """The pieces that each worker was given. A persistent worker is given each block as one piece."""
    given, work, work_on = Given(tmp_path / "given"), FitSettings.fit_pieces, FitSettings.fit_tables

    def noted_work(self: FitSettings, line: WorkerChannel, block: GroupBlock, pieces: list[list[int]]) -> None:
        given.note(pieces)
        work(self, line, block, pieces)

    def noted_work_on(self: FitSettings, line: WorkerChannel, blocks: Iterator[list[pa.Table]]) -> None:
        def noted() -> Iterator[list[pa.Table]]:
            for tables in blocks:
                given.note([list(range(GroupBlock(FitTables(*tables)).n_groups))])
                yield tables

        work_on(self, line, noted())

    monkeypatch.setattr(FitSettings, "fit_pieces", noted_work)
    monkeypatch.setattr(FitSettings, "fit_tables", noted_work_on)
    return given


def test_every_trouble_has_an_expected_result() -> None:
    assert set(COSTS) == set(Trouble) - {Trouble.NONE}


@pytest.mark.parametrize("trouble", COSTS, ids=lambda trouble: trouble.name.lower())
def test_trouble_costs_its_own_group_and_the_others_have_the_models_that_they_have_alone(trouble: Trouble) -> None:
    status, error_class, text = COSTS[trouble]
    rows = fleet([0, 0, trouble, 0])
    result = fitted(rows, limits=LIMITS if status == "timed_out" else PATIENT)
    healthy = rows[rows["trouble"] == 0]
    same(result.drop(index=2), plain(healthy))
    row = result.loc[2]
    assert (row["group_key"], row["status"], row["error_class"], row["rows"]) == ('["g002"]', status, error_class, 12)
    assert text in (row["error"] or "")
    assert (row["model_id"] is None, row["payload"] is None) == (error_class is not None,) * 2
    assert row["recipe_id"] == RECIPE.recipe_id


def test_all_kinds_at_once_cost_each_its_own_group() -> None:
    kinds = [trouble for trouble in COSTS if COSTS[trouble][0] == "failed"]
    rows = fleet([each for trouble in kinds for each in (int(trouble), 0)])
    result = fitted(rows, limits=PATIENT)
    bad = rows.groupby("group_key")["trouble"].first().to_numpy() != 0
    same(result[~bad], plain(rows[rows["trouble"] == 0]))
    assert result[bad]["error_class"].tolist() == [COSTS[trouble][1] for trouble in kinds]


def test_without_trouble_one_child_fits_the_block_in_one_piece(children: Given) -> None:
    rows = fleet([0] * 5)
    same(fitted(rows), plain(rows))
    assert children == [[[0, 1, 2, 3, 4]]]


def test_one_child_is_kept_from_block_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    forks, fork = [], os.fork
    monkeypatch.setattr(os, "fork", lambda: forks.append(1) or fork())
    with closing(SupervisedFitter(FitSettings(RECIPE, CLOCK, SIGNER, PATIENT))) as supervising:
        for size in (3, 5, 2):
            rows = fleet([0] * size)
            ((piece, frame),) = supervising.fit(block(rows))
            assert piece == list(range(size))
            same(frame.astype(object), plain(rows))
    assert len(forks) == 1


def test_a_worker_that_died_between_blocks_counts_against_no_group(
    children: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, pids, fork = fleet([0]), [], os.fork
    monkeypatch.setattr(os, "fork", lambda: pids.append(fork()) or pids[-1])
    with closing(SupervisedFitter(FitSettings(RECIPE, CLOCK, SIGNER, PATIENT))) as supervising:
        supervising.fit(block(rows))
        while not Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].startswith(" S"):
            time.sleep(0.01)  # until it waits
        os.kill(pids[0], signal.SIGKILL)
        supervising.fit(block(fleet([Trouble.KILLED])))
    assert children[1:] == [[[0]]] * 2  # the dead one was given nothing


def test_a_large_block_is_not_copied_but_shared_by_a_fork(children: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised_fitting, "MAX_COPIED_BYTES", 0)
    monkeypatch.setattr(supervised_fitting, "PersistentWorker", None)
    rows = fleet([0, Trouble.KILLED, 0])
    result = fitted(rows)
    assert result["error_class"].tolist() == [None, "Killed", None]
    same(result.drop(index=1), plain(rows[rows["trouble"] == 0]))
    assert children == [[[0, 1, 2]], [[1]], [[0], [2]]]


@pytest.mark.parametrize("trouble", [Trouble.HANGS_IN_C, Trouble.KILLED])
def test_the_attributed_group_is_fitted_alone_once_and_the_rest_in_smaller_pieces(
    children: Given, trouble: Trouble
) -> None:
    fitted(fleet([0, 0, trouble, *[0] * 7]), limits=LIMITS)
    rest = [0, 1, *range(3, 10)]
    assert children == [[list(range(10))], [[2]], [rest[:5], rest[5:]]]


def test_a_group_that_is_alone_from_the_start_is_tried_twice_all_the_same(children: Given) -> None:
    result = fitted(fleet([Trouble.KILLED]))
    assert (result["error_class"].tolist(), children) == (["Killed"], [[[0]], [[0]]])


def test_a_group_that_is_fitted_alone_after_a_death_is_not_marked_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when memory is short for a moment."""
    once, begin = tmp_path / "once", current_group.report

    def kill_once(key: str | None, doing: str) -> None:
        begin(key, doing)
        if key == '["g001"]' and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    rows = fleet([0] * 4)
    expected = plain(rows)
    monkeypatch.setattr(current_group, "report", kill_once)
    same(fitted(rows), expected)
    assert once.exists()


def test_the_memory_that_one_group_keeps_is_not_another_ones_failure(children: Given) -> None:
    """What comes after the leak in the same child has none left: it is fitted again alone."""
    rows = fleet([0, Trouble.LEAKS, *[0] * 20])
    result = fitted(rows)
    assert result["status"].tolist() == ["fitted", "failed", *["fitted"] * 20]
    same(result.drop(index=1), plain(rows[rows["trouble"] == 0]))
    assert [[1]] in children
    assert len(children) <= 4
    assert HELD == []


def test_a_group_that_ran_out_of_memory_kills_two_workers_before_it_is_given_up(
    children: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it lacked memory beside others is not the first of them."""
    fitted_before, fit_of = [], Moody.fit

    def fit(self: Moody, x: Any, y: Any, sample_weight: Any = None) -> Moody:
        if x[0, -1]:
            if fitted_before:
                raise MemoryError
            os.kill(os.getpid(), signal.SIGKILL)
        fitted_before.append(1)
        return fit_of(self, x, y, sample_weight)

    monkeypatch.setattr(Moody, "fit", fit)
    result = fitted(fleet([0, 1]))
    assert result["error_class"].tolist() == [None, "Killed"]
    assert children == [[[0, 1]], [[1]], [[1]]]


def test_a_death_is_attributed_to_a_group_of_the_piece_only() -> None:
    """When memory is short, the last status may be of an earlier piece."""
    died = WorkerDied(place=2, activity="", elapsed_ms=0.0, error_class="MemoryError", text="")
    assert attributed_group([2, 3], died) == 2
    assert attributed_group([4, 5], died) is None
    assert attributed_group([4], died) == 4


@pytest.mark.parametrize("bad", [0, 5, 15])
def test_a_death_without_attribution_halves_the_piece_until_one_group_is_left(
    children: Given, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """A kernel that fits all groups in one call, and dies for one of them without a report."""
    rows, recipe = fleet([0] * 16), replace(RECIPE, estimator="ridge")
    expected = plain(rows, recipe=recipe)
    fit = LinearKernel.fit

    def deadly(self: LinearKernel, stack: fit_kernels.KernelInput, timer: Any) -> Any:
        if keys(16)[bad] in stack.keys:
            os.kill(os.getpid(), signal.SIGKILL)
        return fit(self, stack, timer)

    monkeypatch.setattr(LinearKernel, "fit", deadly)
    result = fitted(rows, recipe=recipe)
    assert result["error_class"].tolist() == [None if at != bad else "Killed" for at in range(16)]
    same(result.drop(index=bad), expected.drop(index=bad))
    assert len(children) <= 10  # 2 log2(16) to find it, and 2


@pytest.mark.parametrize("is_asked", [False, True])
@pytest.mark.parametrize("ends", ["dies", "hangs"])
def test_a_champion_that_kills_the_worker_costs_its_group_the_comparison_and_not_its_model(
    monkeypatch: pytest.MonkeyPatch, is_asked: bool, ends: str
) -> None:
    rows = fleet([0, 0, 0])
    before = plain(rows[rows["event_id"] < "e006"])
    names = {"id": "model_id", "codec": "codec", "payload": "payload", "signature": "signature"}
    names["trained_through"] = "trained_through"
    asked = fit_requests(rows).assign(**{f"champion_{name}": before[column] for name, column in names.items()})
    expected = plain(rows, asked)
    opened = codec.load_signed

    def deadly(signer: Signer, claim: Any, *rest: Any) -> Any:
        if claim.group_key == '["g001"]' and not is_asked:
            end()
        return opened(signer, claim, *rest)

    def end() -> None:
        if ends == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)

    def begin(key: str | None, doing: str) -> None:
        begun(key, doing)
        if (key, doing, is_asked) == ('["g001"]', current_group.PREDICT_CHAMPION, True):
            end()

    begun = current_group.report
    monkeypatch.setattr(codec, "load_signed", deadly)
    monkeypatch.setattr(current_group, "report", begin)
    result = fitted(rows, asked, limits=replace(LIMITS, time_limit_s=2.0))
    same(result.drop(index=1), expected.drop(index=1))
    for name in ("status", "model_id", "payload", "signature"):
        assert result.loc[1, name] == expected.loc[1, name]
    report = json.loads(result.loc[1, "metrics"])
    assert f"while its champion was {'asked' if is_asked else 'read'}" in report["champion_error"]
    assert (report["champion_loss"], report["heldout_rows"], "uncompared" in report) == (None, 0, False)
    decision, *_ = decide(report, Gate(), UncomparedPolicy.NONE)
    assert decision is Decision.UNPROVEN


def test_a_predecessor_that_kills_the_worker_costs_its_group_that_comparison_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = fleet([0, 0, 0])
    names = {"id": "model_id", "codec": "codec", "payload": "payload", "signature": "signature"}
    columns: dict[str, Any] = {}
    for role, until in (("predecessor", "e006"), ("champion", "e008")):
        stored = plain(rows[rows["event_id"] < until])
        columns |= {f"{role}_{name}": stored[column] for name, column in names.items()}
    asked = fit_requests(rows).assign(**columns, champion_trained_through=stored["trained_through"])
    expected = plain(rows, asked)
    opened = codec.load_signed

    def deadly(signer: Signer, claim: Any, *rest: Any) -> Any:
        if claim.model_id == columns["predecessor_id"][1]:
            os.kill(os.getpid(), signal.SIGSEGV)
        return opened(signer, claim, *rest)

    monkeypatch.setattr(codec, "load_signed", deadly)
    result = fitted(rows, asked)
    same(result.drop(index=1), expected.drop(index=1))
    report, before = (json.loads(results.loc[1, "metrics"]) for results in (result, expected))
    assert before["watched_rows"] == 4
    assert "while its champion's predecessor was compared" in report.pop("predecessor_error")
    assert report == {
        name: value for name, value in before.items() if "predecessor" not in name and "watched" not in name
    }


def with_parents(rows: pd.DataFrame, recipe: Recipe, parents: Sequence[str]) -> pd.DataFrame:
    """A request of each group, with the parent of this name, fitted on the oldest rows of the first group."""
    made = {
        name: plain(rows.head(6).assign(group_key=name), pd.DataFrame({"group_key": [name]}), recipe).iloc[0]
        for name in set(parents)
    }
    names = ("codec", "payload", "signature", "trained_through", "recipe_id")
    columns = {f"parent_{name}": [made[each][name] for each in parents] for name in names}
    ids = [made[each]["model_id"] for each in parents]
    return fit_requests(rows).assign(parent_key=parents, parent_id=ids, **columns)


@pytest.mark.parametrize(("is_asked", "pooling_rows"), [(False, None), (True, None), (False, 20.0)])
def test_one_parents_model_that_kills_the_worker_is_not_tried_in_every_group_and_costs_no_child_of_another(
    monkeypatch: pytest.MonkeyPatch, children: Given, is_asked: bool, pooling_rows: float | None
) -> None:
    bad, good, n = '{"g":"bad"}', '{"g":"good"}', 24
    rows, recipe = fleet([0] * n), replace(RIDGE_OF_ALL, pooling_rows=pooling_rows)
    # Linear models are called together and end no process.
    forest = replace(RECIPE, estimator="random_forest", params=(("n_estimators", "2"),))
    asked = with_parents(rows, forest if is_asked else RIDGE_OF_ALL, [bad] * (n - 4) + [good] * 4)
    expected = plain(rows, asked, recipe)
    opened = codec.load_signed

    def deadly(signer: Signer, claim: Any, *rest: Any) -> Any:
        if claim.group_key == bad and not is_asked:
            os.kill(os.getpid(), signal.SIGSEGV)
        return opened(signer, claim, *rest)

    def begin(key: str | None, doing: str) -> None:
        begun(key, doing)
        if is_asked and doing == current_group.PREDICT_PARENT and key in keys(n - 4):
            os.kill(os.getpid(), signal.SIGSEGV)

    begun = current_group.report
    monkeypatch.setattr(codec, "load_signed", deadly)
    monkeypatch.setattr(current_group, "report", begin)
    result = fitted(rows, asked, recipe)
    same(result.tail(4), expected.tail(4))
    of_bad = result.head(n - 4)
    doing = current_group.PREDICT_PARENT if is_asked else current_group.READ_PARENT
    if pooling_rows is not None:
        assert set(of_bad["error_class"]) == {UNREAD_PRIOR}
        reported = of_bad["error"].tolist()
    else:
        assert of_bad["model_id"].tolist() == expected["model_id"].tolist()[: n - 4]
        reported = [json.loads(metrics)["parent"]["error"] for metrics in of_bad["metrics"]]
    assert all(doing in text for text in reported)
    assert sum(text.startswith("Killed") for text in reported) == MAX_COMPARISON_DEATHS
    assert sum(text.startswith(f"{NOT_TRIED_PREFIX}Killed") for text in reported) == n - 4 - MAX_COMPARISON_DEATHS
    assert len(children) <= 4 * MAX_COMPARISON_DEATHS


def test_a_shadow_that_ends_the_process_is_reported_and_the_group_keeps_its_model() -> None:
    plainly = replace(RECIPE, estimator="ridge")
    rows = fleet([0, Trouble.KILLED, 0])
    result = fitted(rows, recipe=replace(plainly, shadow=Shadow(RECIPE, 1.0)))
    expected = plain(rows, recipe=plainly)
    for name in ("status", "model_id", "payload", "signature"):
        assert result[name].tolist() == expected[name].tolist()
    report = [json.loads(metrics)["shadow"] for metrics in result["metrics"]]
    assert ["error" in each for each in report] == [False, True, False]
    assert report[1]["error"].startswith("Killed: its process was killed by SIGKILL while its shadow was compared")


def test_an_earlier_recipe_that_ends_the_process_costs_its_group_the_comparison_and_not_its_model() -> None:
    plainly = replace(RECIPE, estimator="ridge")
    rows = fleet([0, Trouble.KILLED, 0])
    asked = fit_requests(rows).assign(champion_id="before", champion_recipe_id=RECIPE.recipe_id)
    result = fitted(rows, asked, replace(plainly, earlier=((RECIPE.recipe_id, RECIPE),)))
    expected = plain(rows, recipe=plainly)
    for name in ("status", "model_id", "payload", "signature"):
        assert result[name].tolist() == expected[name].tolist()
    report = [json.loads(metrics) for metrics in result["metrics"]]
    assert ["refitted" in each for each in report] == [True, False, True]
    assert report[1]["champion_error"].startswith("its recipe: Killed: its process was killed by SIGKILL")


def test_an_earlier_recipe_that_ends_its_process_in_every_group_is_given_up(children: Given) -> None:
    plainly = replace(RIDGE_OF_ALL, earlier=((RECIPE.recipe_id, RECIPE),))
    rows = fleet([Trouble.KILLED] * (MAX_COMPARISON_DEATHS + 5))
    asked = fit_requests(rows).assign(champion_id="before", champion_recipe_id=RECIPE.recipe_id)
    result = fitted(rows, asked, plainly)
    assert result["payload"].tolist() == plain(rows, recipe=RIDGE_OF_ALL)["payload"].tolist()
    report = [json.loads(metrics)["champion_error"].split(":")[1] for metrics in result["metrics"]]
    assert report == [" Killed"] * MAX_COMPARISON_DEATHS + [" not tried"] * 5
    assert len(children) <= 3 * MAX_COMPARISON_DEATHS + 1


def test_a_shadow_that_ends_its_process_in_every_group_is_given_up(children: Given) -> None:
    plainly = replace(RECIPE, estimator="ridge")
    rows = fleet([Trouble.KILLED] * (MAX_COMPARISON_DEATHS + 5))
    result = fitted(rows, recipe=replace(plainly, shadow=Shadow(RECIPE, 1.0)))
    assert result["payload"].tolist() == plain(rows, recipe=plainly)["payload"].tolist()
    report = [json.loads(metrics)["shadow"]["error"].partition(":")[0] for metrics in result["metrics"]]
    assert report == ["Killed"] * MAX_COMPARISON_DEATHS + ["not tried"] * 5
    # Each of the three: with the others, alone, and alone without it; then all the rest.
    assert len(children) <= 3 * MAX_COMPARISON_DEATHS + 1


def test_a_shadow_that_ends_the_process_before_it_reports_a_group_is_given_up_at_once(children: Given) -> None:
    plainly = replace(RECIPE, estimator="ridge")
    rows = fleet([0] * 5)
    result = fitted(
        rows, recipe=replace(plainly, shadow=Shadow(replace(RECIPE, estimator="misbehaving:nothing_at_all"), 1.0))
    )
    assert result["payload"].tolist() == plain(rows, recipe=plainly)["payload"].tolist()
    report = [json.loads(metrics)["shadow"]["error"] for metrics in result["metrics"]]
    assert all(
        each.startswith("not tried: elsewhere its process was killed by SIGSEGV while its shadow") for each in report
    )
    assert len(children) == 2


def test_groups_with_too_few_rows_or_none_have_their_usual_result(children: Given) -> None:
    rows = pd.concat([fleet([0, Trouble.KILLED]), rows_of('["thin"]', n=3)], ignore_index=True)
    asked = pd.DataFrame({"group_key": ['["none"]', *keys(2), '["thin"]']})
    result = fitted(rows, asked)
    assert result["group_key"].tolist() == asked["group_key"].tolist()
    assert result["status"].tolist() == ["too_few_rows", "fitted", "failed", "too_few_rows"]
    assert SupervisedFitter(FitSettings(RECIPE, CLOCK, SIGNER)).fit(block(rows, asked.head(0))) == []


def test_an_estimator_that_ends_every_process_is_not_tried_in_every_group(children: Given) -> None:
    rows = fleet([Trouble.KILLED] * (MAX_GROUPS_GIVEN_UP + 5))
    supervising = SupervisedFitter(FitSettings(RECIPE, CLOCK, SIGNER))
    errors = [frame["error_class"].iloc[0] for _, frame in supervising.fit(block(rows))]
    assert (errors.count("Killed"), errors.count("NotTried")) == (MAX_GROUPS_GIVEN_UP, 5)
    assert len(children) == 2 * MAX_GROUPS_GIVEN_UP + 5
    for _ in range(7):
        ((_, untried), *_) = supervising.fit(block(rows.head(24)))
        assert (
            untried["error"]
            .iloc[0]
            .startswith(f"not tried, or only once: the first {MAX_GROUPS_GIVEN_UP} groups ended their processes")
        )
    assert len(children) == 2 * MAX_GROUPS_GIVEN_UP + MAX_GROUPS_GIVEN_UP + 4


def test_ten_bad_groups_that_come_first_take_no_healthy_one_with_them(children: Given) -> None:
    rows = fleet([*[Trouble.KILLED] * MAX_GROUPS_GIVEN_UP, *[0] * 40])
    result = fitted(rows)
    assert result["error_class"].tolist() == ["Killed"] * MAX_GROUPS_GIVEN_UP + [None] * 40
    same(result.iloc[MAX_GROUPS_GIVEN_UP:], plain(rows[rows["trouble"] == 0]))
    assert len(children) == 2 * MAX_GROUPS_GIVEN_UP + 2


def test_one_fitted_probe_is_enough_to_fit_its_block(children: Given) -> None:
    """It is not fitted twice, nor is one that is too thin to be a sign."""
    healthy = pd.concat([fleet([0] * 5), rows_of('["g000"]', n=3).assign(group_key='["thin"]')], ignore_index=True)
    with closing(SupervisedFitter(FitSettings(RECIPE, CLOCK, SIGNER))) as supervising:
        supervising.fit(block(fleet([Trouble.KILLED] * (2 * MAX_GROUPS_GIVEN_UP))))
        assert len(children) == 3 * MAX_GROUPS_GIVEN_UP
        pieces = supervising.fit(block(healthy))
    result = pd.concat([frame.astype(object) for _, frame in pieces], ignore_index=True)
    assert sorted(place for piece, _ in pieces for place in piece) == list(range(6))
    assert sorted(result["status"]) == ["fitted"] * 5 + ["too_few_rows"]
    assert children[3 * MAX_GROUPS_GIVEN_UP] == [[2]]


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimator that takes all memory in every group with trouble, and keeps it."""

    def fit(self: Moody, x: Any, y: Any, sample_weight: Any = None) -> Moody:
        if x[0, -1]:
            HELD.append(x)
        if HELD:
            raise MemoryError
        return fit_of(self, x, y, sample_weight)

    fit_of = Moody.fit
    monkeypatch.setattr(Moody, "fit", fit)


@pytest.mark.usefixtures("greedy")
def test_running_out_of_memory_in_every_group_does_not_take_two_workers_each(children: Given) -> None:
    result = fitted(fleet([1] * 150))
    assert result["error_class"].tolist() == ["MemoryError"] * 150
    # Two of each that repeats, then of each piece: of 2, 4 and so on to 64.
    assert len(children) <= 2 * (TRUSTED_AFTER + 1) + 2 * 8


@pytest.mark.usefixtures("greedy")
def test_out_of_memory_results_are_not_trusted_any_more_once_a_retry_was_fitted(
    children: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised_fitting, "TRUSTED_AFTER", 2)
    with closing(SupervisedFitter(FitSettings(RECIPE, CLOCK, SIGNER, PATIENT))) as supervising:
        supervising.fit(block(fleet([1] * 20)))
        assert len(children) < 20  # else each would have been tried alone
        pieces = supervising.fit(block(fleet([1, *[0] * 7])))
    result = pd.concat([frame.astype(object) for _, frame in pieces], ignore_index=True)
    assert sorted(result["status"]) == ["failed", *["fitted"] * 7]


@pytest.mark.usefixtures("greedy")
def test_a_shadow_that_lacks_memory_in_every_group_is_given_up(children: Given) -> None:
    plainly = replace(RECIPE, estimator="ridge")
    rows = fleet([1] * (MAX_COMPARISON_DEATHS + 20))
    result = fitted(rows, recipe=replace(plainly, shadow=Shadow(RECIPE, 1.0)))
    assert result["payload"].tolist() == plain(rows, recipe=plainly)["payload"].tolist()
    report = [json.loads(metrics)["shadow"]["error"] for metrics in result["metrics"]]
    assert [each.partition(":")[0] for each in report] == ["MemoryError"] * MAX_COMPARISON_DEATHS + ["not tried"] * 20
    assert report[-1].startswith("not tried: elsewhere it lacked memory. Fit fewer rows")
    assert len(children) == 2 * MAX_COMPARISON_DEATHS + 1


def test_one_group_that_was_fitted_is_enough_to_try_all_of_them() -> None:
    rows = fleet([*[Trouble.KILLED] * (MAX_GROUPS_GIVEN_UP + 2), 0])
    supervising = SupervisedFitter(FitSettings(RECIPE, CLOCK, SIGNER))
    supervising.fit(block(rows_of('["first"]')))
    errors = [frame["error_class"].iloc[0] for _, frame in supervising.fit(block(rows))]
    assert errors.count("Killed") == MAX_GROUPS_GIVEN_UP + 2


def test_the_pieces_after_a_death_grow_again_as_they_are_fitted() -> None:
    sizes = [len(piece) for piece in cut_pieces(list(range(200)), 3)]
    assert sizes == [3, 6, 12, 24, 48, MAX_PIECE_AFTER_DEATH, 43]
    assert cut_pieces(list(range(200)), 200) == [list(range(200))]


def test_errors_that_concern_no_single_group_are_raised() -> None:
    rows = fleet([0, 0])
    with pytest.raises(ContractError, match="features: expected"):
        fitted(rows.drop(columns="x"))
    with pytest.raises(ConfigError, match="module `no_such_module`"):
        fitted(rows, recipe=replace(RECIPE, estimator="no_such_module:make"))
    with pytest.raises(ContractError, match=r"recipe\.estimator misbehaving:raises .* ZeroDivisionError"):
        fitted(rows, recipe=replace(RECIPE, estimator="misbehaving:raises"))
    with pytest.raises(
        ContractError, match=r"nothing_at_all: expected an estimator; got none: .* SIGSEGV while recipe"
    ):
        fitted(rows, recipe=replace(RECIPE, estimator="misbehaving:nothing_at_all"))


def test_a_process_that_ends_once_before_there_is_an_estimator_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when memory is short for a moment."""
    once, kernel_for = tmp_path / "once", supervised_fitting.kernel_for

    def kill_once(*asked: Any) -> Any:
        if not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return kernel_for(*asked)

    rows = fleet([0] * 3)
    expected = plain(rows)
    monkeypatch.setattr(supervised_fitting, "kernel_for", kill_once)
    same(fitted(rows), expected)
    assert once.exists()


def test_a_parent_that_has_used_many_threads_has_children_that_end() -> None:
    """OpenMP's threads do not survive a fork: waiting for them would never end."""
    random = np.random.default_rng(1)
    x = random.normal(size=(5_000, 4))
    HistGradientBoostingRegressor(max_iter=5).fit(x, x[:, 0]).predict(x)
    np.linalg.svd(random.normal(size=(300, 300)))
    boosted = replace(RECIPE, estimator="hist_gradient_boosting", params=(("max_iter", "5"),))
    rows = fleet([0, 0])
    result = fitted(rows, recipe=boosted, limits=PATIENT)
    assert result["status"].tolist() == ["fitted", "fitted"]
    same(result, plain(rows, recipe=boosted))


def test_a_hang_takes_the_whole_time_limit_each_time() -> None:
    began = time.monotonic()
    result = fitted(fleet([*[0] * 10, Trouble.HANGS_IN_C, *[0] * 10]), limits=replace(LIMITS, time_limit_s=1.0))
    assert result["status"].value_counts().to_dict() == {"fitted": 20, "timed_out": 1}
    assert result.loc[10, "fit_ms"] >= 1000
    assert time.monotonic() - began >= 2.0
