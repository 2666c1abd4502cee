"""Command tidy: compacts tables and applies the retention rules."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from spinney.cli.options import config_option, confirmed, example, json_option, load_config, table, write_json

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.operations.maintenance import DirectoryReport

POLL_SECONDS = 0.2


@click.command(epilog=example("spinney tidy --dry-run"))
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would be done without doing it.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    help="Longest time to wait until running queries have tidied their tables, in seconds.",
)
def tidy(config_path: str, as_json: bool, dry_run: bool, yes: bool, wait: float) -> None:
    """Compact small files and apply the rules of [retention].

    Rows that the rules no longer keep are deleted, and files that nothing reads any more are removed.

    Can run beside a stream: each directory is tidied by the process that writes it. A model that answers, is pinned, or
    may be needed by a rollback is never deleted.
    """
    from datetime import UTC, datetime

    from spinney.operations.maintenance import inspect_directory
    from spinney.storage.layout import FleetStore
    from spinney.tables.opened_tables import OpenedTables

    is_confirmed = confirmed(yes or dry_run, as_json=as_json)
    config = load_config(config_path)
    store, opened = FleetStore.of(config), OpenedTables()
    for directory in store.every_directory():
        opened.open(directory)  # a table that does not exist is an error before anything is changed
    if dry_run or not is_confirmed:
        surveys = [
            inspect_directory(store, config.safe_retention, directory, datetime.now(UTC), opened)
            for directory in store.every_directory()
        ]
        _show(surveys, as_json=dry_run and as_json)
    if dry_run:
        return
    if not is_confirmed:
        click.confirm("Tidy these?", abort=True, err=True)
    done, left = _carry_out(config, wait)
    _show(done, as_json=as_json)
    for name, why in left.items():
        click.echo(f"left as it is: what {name} writes: {why}", err=True)
    sys.exit(1 if left else 0)


def _carry_out(config: Config, seconds: float) -> tuple[list[DirectoryReport], dict[str, str]]:
    """Tidy every directory that no other process holds, and wait for the processes that hold the others.

    seconds: longest wait. Returns the reports, and lease -> reason for each directory that was not tidied in time.
    """
    from spinney.operations import maintenance
    from spinney.storage.layout import FleetStore

    store = FleetStore.of(config)
    request = maintenance.request_tidy(store)
    until = time.monotonic() + seconds
    waiting = set(maintenance.lease_names(store))
    while waiting:
        # The process that holds a lease serves the request; if it ends, this process does.
        for name in sorted(waiting):
            answered = maintenance.read_answer(store, name)
            if (answered and answered.request == request) or maintenance.tidy_if_idle(
                store, config.safe_retention, name, request
            ):
                waiting.discard(name)
        if not waiting or time.monotonic() >= until:
            break
        time.sleep(POLL_SECONDS)
    left = dict.fromkeys(sorted(waiting), "a process runs it that did not serve in time; try again, or use --wait")
    done: list[DirectoryReport] = []
    for name in maintenance.lease_names(store):
        answered = maintenance.read_answer(store, name)
        if name not in waiting and answered:
            done += answered.done
            left |= {name: answered.error} if answered.error else {}
    return done, left


def _show(surveys: list[DirectoryReport], *, as_json: bool) -> None:
    rows = [asdict(survey) for survey in surveys]
    if as_json:
        write_json(rows)
    else:
        table("tidy", rows)


VERBS = (tidy,)
