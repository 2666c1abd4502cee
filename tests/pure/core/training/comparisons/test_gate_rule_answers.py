"""A user's rule is asked about the losses that challenger and champion have on the held-out rows, group by group."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recipes import RIDGE
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas.vocabulary import Decision
from spinney.core.champions.gate import decide
from spinney.core.champions.user_rule import Comparison
from spinney.core.config import Gate
from spinney.core.errors import ConfigError
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import UserRuleTerms
from spinney.core.training import current_group
from spinney.core.training.fitting import fit_groups

START = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=30)
SIGNER = Signer(b"k" * 32)
RECIPE = replace(RIDGE, user_rule=UserRuleTerms("rules_of_a_test:rule", 30, 0.05))
GATE = Gate(rule="rules_of_a_test:rule")
Rule = Callable[[Comparison], Any]


@pytest.fixture
def ruled_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rule], None]:
    """A function that puts a rule where RECIPE names it."""

    def put(rule: Rule) -> None:
        module = types.ModuleType("rules_of_a_test")
        module.rule = rule  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "rules_of_a_test", module)

    return put


def rows_of(key: str, n: int = 40) -> pd.DataFrame:
    random = np.random.default_rng([*key.encode()])
    frame = pd.DataFrame({"group_key": key, "x": random.normal(size=n)})
    frame["label"] = 3 * frame["x"] + random.normal(size=n)
    times = [START + timedelta(hours=hour) for hour in range(n)]
    return frame.assign(event_id=[f"e{i:03}" for i in range(n)], event_time=pd.DatetimeIndex(times).as_unit("us"))


A, B = rows_of('["a"]'), rows_of('["b"]')
BOTH = pd.concat([A, B], ignore_index=True)


def asked(*groups: pd.DataFrame) -> pd.DataFrame:
    """Requests of groups whose champion was fitted on their first 30 rows."""
    older = pd.concat([group[:30] for group in groups])
    keys = pd.DataFrame({"group_key": [group["group_key"].iloc[0] for group in groups]})
    before = fit_groups(older, keys, RIDGE, CLOCK, SIGNER)
    names = {"id": "model_id", "codec": "codec", "payload": "payload", "signature": "signature"}
    names |= {"trained_through": "trained_through", "recipe_id": "recipe_id"}
    return keys.assign(**{f"champion_{name}": before[column] for name, column in names.items()})


def metrics(fitted: pd.DataFrame, group: int = 0) -> dict[str, Any]:
    return dict(json.loads(fitted["metrics"].iloc[group]))


def losses_of_oracle(rows: pd.DataFrame, until: int, held: slice) -> Any:
    model = make_pipeline(StandardScaler(), Ridge()).fit(rows[["x"]].to_numpy()[:until], rows["label"][:until])
    return np.abs(rows["label"][held] - model.predict(rows[["x"]].to_numpy()[held])).to_numpy()


def test_the_rule_gets_the_losses_of_each_held_out_row_oldest_first(ruled_by) -> None:
    seen: list[Comparison] = []

    def rule(found: Comparison) -> tuple[bool, str]:
        seen.append(found)
        return len(seen) == 1, f"number {len(seen)}"

    ruled_by(rule)
    requests = asked(A, B)
    fitted = fit_groups(BOTH.sample(frac=1, random_state=3), requests, RECIPE, CLOCK, SIGNER)
    assert len(seen) == 2
    # Ten rows are new to the champion: the newer half of them is held out.
    for rows, found in zip((A, B), seen, strict=True):
        np.testing.assert_allclose(found.challenger_losses, losses_of_oracle(rows, 35, slice(35, 40)), rtol=1e-6)
        np.testing.assert_allclose(found.champion_losses, losses_of_oracle(rows, 30, slice(35, 40)), rtol=1e-6)
    by_built_in = fit_groups(BOTH, requests, RIDGE, CLOCK, SIGNER)
    for group, (found, promotes) in enumerate(zip(seen, (True, False), strict=True)):
        answer = {"rule": "rules_of_a_test:rule", "promotes": promotes, "reason": f"number {group + 1}"}
        assert metrics(fitted, group) == metrics(by_built_in, group) | {"user_rule": answer}
        built_in = decide(metrics(by_built_in, group), Gate())
        assert (found.built_in_promotes, found.built_in_reason) == (True, built_in.reason)
        decision = decide(metrics(fitted, group), GATE).decision
        assert decision is (Decision.UNPROVEN if promotes else Decision.REFUSED)  # five rows
    same = ["model_id", "recipe_id", "payload", "signature"]
    pd.testing.assert_frame_equal(fitted[same], by_built_in[same])


def test_the_rule_is_not_asked_about_first_models_nor_where_nothing_was_compared(ruled_by) -> None:
    ruled_by(lambda _: pytest.fail("it was asked"))
    first = fit_groups(A, pd.DataFrame({"group_key": ['["a"]']}), RECIPE, CLOCK, SIGNER)
    nothing_newer = asked(A).assign(champion_trained_through=pd.Timestamp(CLOCK), champion_id="other")
    uncompared = fit_groups(A, nothing_newer, RECIPE, CLOCK, SIGNER)
    for fitted in (first, uncompared):
        assert fitted["status"].tolist() == ["fitted"]
        assert "user_rule" not in metrics(fitted)


def test_a_rule_that_raises_or_gives_no_answer_fails_its_group_only(ruled_by) -> None:
    a = losses_of_oracle(A, 35, slice(35, 40))

    def rule(found: Comparison) -> Any:
        return 1 / 0 if np.allclose(found.challenger_losses, a, rtol=1e-6) else (True, "words")

    ruled_by(rule)
    fitted = fit_groups(BOTH, asked(A, B), RECIPE, CLOCK, SIGNER)
    assert fitted["status"].tolist() == ["failed", "fitted"]
    expected = 'gate.rule "rules_of_a_test:rule": expected a pair of True or False and a reason on one line; got '
    assert fitted["error"].iloc[0] == f"{expected}ZeroDivisionError: division by zero. `spinney check` tries it"
    assert fitted["payload"].isna().tolist() == [True, False]


def test_the_group_is_reported_before_its_rule_is_asked(ruled_by) -> None:
    reports: list[tuple[str | None, str]] = []
    ruled_by(lambda _: (len(reports) > 0 and reports[-1] == ('["a"]', current_group.RULE), "words"))
    with current_group.reported_to(lambda key, doing: reports.append((key, doing))):
        fitted = fit_groups(A, asked(A), RECIPE, CLOCK, SIGNER)
    assert metrics(fitted)["user_rule"]["promotes"]


def test_a_rule_that_is_not_there_concerns_no_single_group() -> None:
    missing = replace(RECIPE, user_rule=UserRuleTerms("no_such_rules:rule", 30, 0.05))
    with pytest.raises(ConfigError, match=r"gate\.rule: expected a module `no_such_rules`"):
        fit_groups(A, asked(A), missing, CLOCK, SIGNER)
