"""Commands promote, rollback, pin and unpin: change champions by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spinney.cli.options import (
    config_option,
    confirmed,
    example,
    json_option,
    key_of,
    load_config,
    person_of,
    reason_of,
    table,
    write_json,
)

if TYPE_CHECKING:
    from spinney.operations.interventions import OverrideRequest, ProposedOverride

F = TypeVar("F", bound=Callable[..., Any])

MAX_SHOWN = 50
MODEL = "The model's id or the first characters of it, as shown by `spinney why`."


@dataclass(frozen=True)
class _DecisionOptions:
    """The values of the options that these commands share."""

    config_path: str
    as_json: bool
    reason: str
    by: str | None
    dry_run: bool
    yes: bool


def _decision_options(verb: F) -> F:
    """Add the options that promote, rollback, pin and unpin share."""
    options = (
        config_option,
        json_option,
        click.option("--reason", required=True, help="Why, recorded with the decision."),
        click.option("--by", help="Who decides [default: your login name]."),
        click.option("--dry-run", is_flag=True, help="Show the changes without writing them."),
        click.option("--yes", is_flag=True, help="Write without asking for confirmation."),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


@click.command(epilog=example("spinney promote AA JFK LAX --model 3f9c2a --reason 'the new one overshoots'"))
@click.argument("key", nargs=-1, required=True)
@click.option("--model", required=True, help=MODEL)
@_decision_options
def promote(key: tuple[str, ...], model: str, **deciding: Any) -> None:
    """Make another model of a group its champion, from the stream's next batch on.

    A model fitted on newer data may replace it later; `spinney pin` prevents that. KEY is given as for `spinney why`.
    """
    from spinney.operations.interventions import OverrideRequest, OverrideVerb

    _decide(OverrideRequest(OverrideVerb.PROMOTE, (key_of(key),), model), _DecisionOptions(**deciding))


@click.command(epilog=example("spinney rollback --all --as-of 2026-11-20T18:00Z --reason 'bad feed since then'"))
@click.argument("key", nargs=-1)
@click.option("--group", "groups", multiple=True, metavar="KEY", help="A group to roll back; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Roll back every group and every parent.")
@click.option(
    "--as-of",
    metavar="TIME|ROUND",
    help="Go back to the champions at this time (wall clock) or after this round [default for KEY: the previous one].",
)
@_decision_options
def rollback(
    key: tuple[str, ...], groups: tuple[str, ...], everything: bool, as_of: str | None, **deciding: Any
) -> None:
    """Go back to an earlier champion.

    Applies to one group (KEY), several groups (--group) or the whole fleet (--all). The model that is replaced is
    withdrawn: machines do not promote it again, even if they fit the same rows again. Models fitted on newer rows may
    be promoted. A pinned group is refused; with --all it is skipped. KEY is given as for `spinney why`.
    """
    from spinney.operations.interventions import OverrideRequest, OverrideVerb
    from spinney.storage.layout import FleetStore
    from spinney.tables.readers.as_of import format_as_of, resolve_as_of

    if bool(key) + bool(groups) + everything != 1:
        raise click.UsageError("expected one of: KEY, at least one --group KEY, --all")
    if as_of is None and not key:
        raise click.UsageError("expected --as-of with several groups: a time, or a round")
    named = (key_of(key),) if key else tuple(dict.fromkeys(key_of((group,)) for group in groups))
    config = load_config(deciding["config_path"])
    at = None if as_of is None else resolve_as_of(FleetStore.of(config), as_of)
    if at is not None:
        click.echo(f"back to {format_as_of(at)}", err=True)
    _decide(OverrideRequest(OverrideVerb.ROLLBACK, None if everything else named, at=at), _DecisionOptions(**deciding))


@click.command(epilog=example("spinney pin AA JFK LAX --reason 'under dispute until Friday'"))
@click.argument("key", nargs=-1, required=True)
@click.option("--model", help=f"{MODEL} [default: the champion]")
@_decision_options
def pin(key: tuple[str, ...], model: str | None, **deciding: Any) -> None:
    """Keep the champion of a group, or another of its models, as champion until `spinney unpin`.

    No model fitted meanwhile replaces it. KEY is given as for `spinney why`.
    """
    from spinney.operations.interventions import OverrideRequest, OverrideVerb

    _decide(OverrideRequest(OverrideVerb.PIN, (key_of(key),), model), _DecisionOptions(**deciding))


@click.command(epilog=example("spinney unpin AA JFK LAX --reason 'settled'"))
@click.argument("key", nargs=-1, required=True)
@_decision_options
def unpin(key: tuple[str, ...], **deciding: Any) -> None:
    """End a pin. The pinned model stays champion until a newer model is promoted.

    KEY is given as for `spinney why`.
    """
    from spinney.operations.interventions import OverrideRequest, OverrideVerb

    _decide(OverrideRequest(OverrideVerb.UNPIN, (key_of(key),)), _DecisionOptions(**deciding))


def _decide(request: OverrideRequest, deciding: _DecisionOptions) -> None:
    """Show the changes, ask for confirmation, write them, and report what was written."""
    from spinney.operations import interventions
    from spinney.storage.layout import FleetStore
    from spinney.storage.signing_key import load_signer

    decision_by = interventions.Attribution(person_of(deciding.by), reason_of(deciding.reason))
    is_confirmed = confirmed(deciding.yes or deciding.dry_run, as_json=deciding.as_json)
    config = load_config(deciding.config_path)
    store = FleetStore.of(config)
    proposed = interventions.propose_override(store, load_signer(store), request)
    if not deciding.as_json:
        _show(proposed)
    if proposed.steps and not deciding.dry_run:
        if not is_confirmed:
            click.confirm(f"{_count(proposed)} change, by {decision_by.by}. Write it?", abort=True, err=True)
        proposed = interventions.carry_out_override(
            store, load_signer(store), request, decision_by, None if is_confirmed else proposed
        )
        click.echo(f"written: {_count(proposed)}, in force from the stream's next batch on", err=True)
    if deciding.as_json:
        written = bool(proposed.steps) and not deciding.dry_run
        write_json({"written": written, "changes": proposed.steps, "left": proposed.left})
    sys.exit(1 if any(unchanged.wanting for unchanged in proposed.left) else 0)


def _count(proposed: ProposedOverride) -> str:
    return "1 group" if len(proposed.steps) == 1 else f"{len(proposed.steps):,} groups"


def _show(proposed: ProposedOverride) -> None:
    from spinney.core.champions.interventions import SHORT_ID_LENGTH

    def short(name: str | None) -> str:
        return name[:SHORT_ID_LENGTH] if name else "none of its own"

    if proposed.steps:
        rows = [
            {
                "group": step.group_key,
                "from": short(step.before),
                "to": short(step.after),
                "why": f"{step.why}; {short(step.withdrawn)} is withdrawn" if step.withdrawn else step.why,
            }
            for step in proposed.steps[:MAX_SHOWN]
        ]
        table("changes", rows)
        if len(rows) < len(proposed.steps):
            click.echo(f"{len(proposed.steps) - len(rows):,} more; --json shows all", err=True)
    else:
        click.echo("nothing to change", err=True)
    reasons: dict[str, list[str]] = {}
    for unchanged in proposed.left:
        reasons.setdefault(unchanged.why, []).append(unchanged.group_key)
    for why, keys in reasons.items():
        more = f" and {len(keys) - 1:,} more" if len(keys) > 1 else ""
        click.echo(f"left as it is: {keys[0]}{more}: {why}", err=True)


VERBS = (promote, rollback, pin, unpin)
