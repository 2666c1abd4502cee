"""Commands keys add, list and revoke: who may call the HTTP gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from schemas.vocabulary import Scope
from spinney.cli.options import config_option, example, json_option, load_config, table, write_json

if TYPE_CHECKING:
    from spinney.storage.api_keys import ApiKey


@click.group(epilog=example("spinney keys add nightly-report --scope read --scope score"))
def keys() -> None:
    """Make, list or revoke API keys of the gateway."""


@keys.command(epilog=example("spinney keys add nightly-report --scope read --scope score"))
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the key allows: read statuses, score rows, or operate (retrain, promote …); may be repeated.",
)
@config_option
@json_option
def add(config_path: str, as_json: bool, name: str, scopes: tuple[str, ...]) -> None:
    """Make a key for NAME and print it. It is shown this once: only a hash of it is stored.

    Overrides on the fleet page are recorded under NAME.
    """
    from spinney.storage.api_keys import add_key
    from spinney.storage.layout import FleetStore

    made, text = add_key(FleetStore.of(load_config(config_path)), name, scopes)
    if as_json:
        write_json({**_shown(made), "key": text})
        return
    click.echo(text)
    click.echo(f"key {made.id} of {made.name}: {', '.join(made.scopes)}. It is not shown again", err=True)


@keys.command(name="list", epilog=example("spinney keys list"))
@config_option
@json_option
def list_(config_path: str, as_json: bool) -> None:
    """List the keys, without their secrets. Reads only."""
    from spinney.storage.api_keys import list_keys
    from spinney.storage.layout import FleetStore

    rows = [_shown(key) for key in list_keys(FleetStore.of(load_config(config_path)))]
    if as_json:
        write_json(rows)
    elif rows:
        table("keys", rows)
    else:
        click.echo("no keys; spinney keys add makes one", err=True)


@keys.command(epilog=example("spinney keys revoke 5f3c09ab"))
@click.argument("key_id", metavar="ID")
@config_option
@json_option
def revoke(config_path: str, as_json: bool, key_id: str) -> None:
    """Make a key invalid, at once also in running gateways. ID is shown by `spinney keys list`."""
    from spinney.storage.api_keys import revoke_key
    from spinney.storage.layout import FleetStore

    revoked = revoke_key(FleetStore.of(load_config(config_path)), key_id)
    if as_json:
        write_json(_shown(revoked))
        return
    click.echo(f"key {revoked.id} of {revoked.name} was revoked at {revoked.revoked_at}", err=True)


def _shown(key: ApiKey) -> dict[str, Any]:
    """A key without its hash."""
    scopes = ", ".join(key.scopes)
    return {
        "id": key.id,
        "name": key.name,
        "scopes": scopes,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
