"""A backtest from configuration files and rows to its result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spinney.core.backtest.baselines import replay_baselines
from spinney.core.backtest.comparison import compare
from spinney.core.backtest.history import MICROSECOND, History, LabelTiming
from spinney.core.backtest.replay import ReplaySettings, Steps
from spinney.core.backtest.run import Show, replay_all
from spinney.core.backtest.strategy import Strategy
from spinney.core.config import Config
from spinney.core.config.candidate_overlay import parse_overlay
from spinney.core.errors import ConfigError, Finding
from spinney.core.recipes.recipe import Recipe
from spinney.local.backtest.report_text import Backtest

OWN = "as configured"
"""Name of the configuration itself."""


@dataclass(frozen=True)
class Request:
    """The replays to run: a configuration, and files with the keys of each candidate that differ.

    step: microseconds. has_baselines: whether the baselines of the configuration are replayed too.
    """

    config: Config
    candidates: Sequence[str]
    step: int
    has_baselines: bool = False


def run_backtest(request: Request, frame: pd.DataFrame, source: str, show: Show = lambda _: None) -> Backtest:
    """Replay the configuration and its candidates. frame: as in `History.of`. source: of the rows, for messages.

    Raises ConfigError: a candidate's file. ContractError: rows that cannot be used.
    """
    config, cores = request.config, os.cpu_count() or 1
    strategies = [Strategy.from_config(config, OWN, cores)]
    named = zip(_names(request.candidates), request.candidates, strict=True)
    strategies += [Strategy.from_config(read_candidate(config, file), name, cores) for name, file in named]
    history = History.of(frame, Recipe.of(config), LabelTiming.from_config(config))
    settings = ReplaySettings(Steps.covering(history, request.step), config.staleness.max_age // MICROSECOND)
    replays = replay_all(history, strategies, settings, show)
    if request.has_baselines:
        replays += replay_baselines(history, strategies[0], replays[0], settings, show)
    return Backtest(compare(history, replays), history, settings.steps, source, config.fleet.loss)


def _names(files: Sequence[str]) -> list[str]:
    """Return the files' names without their endings; whole paths if two names would be equal."""
    stems = [Path(file).stem for file in files]
    return [stem if stems.count(stem) == 1 and stem != OWN else file for stem, file in zip(stems, files, strict=True)]


def read_candidate(config: Config, file: str) -> Config:
    """Return the configuration with the keys of a candidate's file.

    Raises ConfigError if the file is of another fleet.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        got = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Finding(file, None, "", "a file of TOML that can be read", got, "")]) from error
    return parse_overlay(config, text, file, os.environ)
