"""The command line. Each command reads the configuration, calls one function and shows the result.

pydantic, pandas and Spark are imported inside the commands, so that ``spinney --help`` answers at once.
"""

from __future__ import annotations

import os
from typing import Any

import click

from spinney.cli import (
    backtest,
    champion,
    check,
    dead_letters,
    demo,
    fleet,
    init,
    kafka,
    keys,
    load,
    migrate,
    produce,
    register,
    retrain,
    serve,
    stream,
    tidy,
    trial,
)
from spinney.core.errors import SpinneyError, exit_code


class Root(click.Group):
    """The root command: lists commands in the order of a first use, and turns errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """Names of the commands, in the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print a SpinneyError as one message and exit with its code."""
        try:
            return super().invoke(ctx)
        except SpinneyError as error:
            if ctx.params.get("debug") or os.environ.get("SPINNEY_DEBUG"):
                raise
            click.echo(f"spinney: {error}", err=True)
            ctx.exit(exit_code(error))


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="spinney")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors, as SPINNEY_DEBUG=1 does.")
def main(debug: bool) -> None:
    """Fit, serve and monitor one small model per group; refit models that have gone stale.

    Exit codes: 0 success, 1 a finding or failure, 2 wrong usage or configuration.
    """
    del debug  # read by Root.invoke


for verb in (
    demo.demo,
    check.check,
    init.init,
    kafka.kafka,
    produce.produce,
    load.load,
    *trial.VERBS,
    backtest.backtest,
    stream.stream,
    retrain.retrain,
    *dead_letters.VERBS,
    *fleet.VERBS,
    *champion.VERBS,
    *register.VERBS,
    serve.serve,
    keys.keys,
    *tidy.VERBS,
    *migrate.VERBS,
):
    main.add_command(verb)
