"""`load --models` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import pytest
from click.testing import CliRunner, Result
from handwritten_history import Past, fleet_toml, hour
from sklearn.linear_model import LinearRegression
from skops import io as skops_io

from schemas import tables
from spinney.cli import main
from spinney.storage import signing_key
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore


@pytest.fixture(autouse=True)
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPINNEY_SIGNING_KEY", raising=False)
    Path("fleet.toml").write_text(fleet_toml())
    config = read_config("fleet.toml")
    signing_key.ensure_key(FleetStore.of(config))
    made = Past(config, signing_key.load_signer(FleetStore.of(config)))
    made.put(tables.EVENTS, "", {"group_key": '["a","1"]', "event_id": "e", "event_time": hour(0), "price": 2.0})
    model = LinearRegression().fit([[1.0], [2.0]], [2.0, 4.0])
    Path("a.skops").write_bytes(skops_io.dumps(model))
    joblib.dump(model, "b.pkl")
    Path("models.csv").write_text("shop,dept,model\na,1,a.skops\nb,1,b.pkl\n")
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["load", "models.csv", *words])


def test_what_became_of_each_is_counted_and_a_refusal_is_exit_code_1(past: Past) -> None:
    done = run("--models", "--reason", "the old system's", "--by", "ada")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == ["what\tmodels", "imported\t1", "there already\t0", "refused\t1"]
    assert 'group ["b","1"]: b.pkl: refused: reading a pickle runs whatever code it holds' in done.stderr
    assert [(row["by"], row["reason"]) for row in past.decided()] == [("ada", "imported: the old system's")]


def test_allowed_pickles_are_warned_of_and_a_dry_run_writes_nothing(past: Past) -> None:
    words = ("--models", "--reason", "so", "--allow-pickle")
    done = run(*words, "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    assert "pickles are allowed: reading one runs whatever code it holds" in done.stderr
    report = json.loads(done.stdout)
    assert (report["written"], report["counts"]) == (False, {"imported": 2, "there already": 0, "refused": 0})
    assert [each["group_key"] for each in report["models"]] == ['["a","1"]', '["b","1"]']
    assert past.decided() == []
    assert run(*words).exit_code == 0
    assert "there already\t2" in run(*words).stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--models",), "--models writes decisions of a person: give the reason with --reason TEXT"),
        (("--models", "--reason", " "), "expected words"),
        (("--models", "--reason", "so", "--by", "batch"), "expected a person's name; got 'batch'"),
        (("--models", "--outcomes", "--reason", "so"), "expected one of: --outcomes, --models"),
        (("--allow-pickle",), "--allow-pickle needs --models"),
        (("--dry-run",), "--dry-run needs --models"),
    ],
)
def test_wrong_usage_is_reported_before_anything_is_read(words: tuple[str, ...], why: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert why in done.stderr


def test_a_comparison_with_an_incumbent_that_is_not_there_says_so() -> None:
    done = CliRunner().invoke(main, ["fleet", "--incumbent"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing to compare: no row that the incumbent answered and no model was fitted on" in done.stderr
    done = CliRunner().invoke(main, ["fleet", "--incumbent", "--state", "fresh"])
    assert done.exit_code == 2
    assert "expected --incumbent alone" in done.stderr
