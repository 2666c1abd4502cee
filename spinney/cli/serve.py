"""Command serve: the HTTP gateway."""

from __future__ import annotations

import json
import logging
import sys

import click

from spinney.cli.options import config_option, example, json_lines_option, load_config


@click.command(epilog=example("spinney serve"))
@config_option
@json_lines_option
@click.option(
    "--insecure", is_flag=True, help="Answer anybody on this machine without a key. Only on 127.0.0.1 or ::1."
)
def serve(config_path: str, as_json: bool, insecure: bool) -> None:
    """Answer HTTP requests by the fleet's models, and show the fleet page. Runs until it is stopped. Needs no Java.

    [gateway] has the address and the limits. A new champion answers within seconds. With --json, each request and
    each fault is one line.
    """
    from spinney.gateway.memory_release import let_deltalake_release_memory
    from spinney.gateway.monitoring.json_logs import log_as_json

    let_deltalake_release_memory()  # before the next import, which loads it
    from spinney.gateway.server import serve as run_gateway

    config = load_config(config_path)
    if as_json:
        log_as_json(logging.StreamHandler(sys.stdout))

    def show(url: str) -> None:
        if as_json:
            click.echo(json.dumps({"fleet": config.fleet.name, "url": url, "insecure": insecure}))
            return
        callers = "anybody on this machine, since it is --insecure" if insecure else "callers with an API key"
        click.echo(f"fleet {config.fleet.name}: {url} for {callers}; the fleet page is {url}/page/", err=True)

    run_gateway(config, insecure=insecure, on_listening=show)
