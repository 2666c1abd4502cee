"""Command kafka: a broker on this machine."""

from __future__ import annotations

import json
import signal
import time
from types import FrameType

import click

from spinney.cli.options import example, json_lines_option

POLL_SECONDS = 0.5


@click.command(epilog=example("spinney kafka --port 9092 --data work/kafka"))
@json_lines_option
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=9092, show_default=True, help="Port that clients connect to."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    default="work/kafka",
    show_default=True,
    help="Folder for the broker's records.",
)
def kafka(as_json: bool, port: int, data: str) -> None:
    """Run a Kafka broker on this machine, in the foreground, until Ctrl-C or SIGTERM."""
    from pathlib import Path

    from spinney.local.broker import Broker

    def say(event: str, words: str, **details: str | int) -> None:
        click.echo(f"kafka: {words}", err=True)
        if as_json:
            click.echo(json.dumps({"event": event, **details}))

    signal.signal(signal.SIGTERM, _interrupt)
    say("starting", f"starting on port {port}, data in {data}", port=port, data=data)
    try:
        with Broker(Path(data), port) as broker:
            servers = broker.bootstrap_servers
            say("ready", f"ready at {servers}; Ctrl-C stops it", bootstrap_servers=servers)
            while broker.running:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        say("stopped", "stopped")
        return
    raise click.ClickException(f"kafka: the broker ended by itself; its log is {broker.log}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
