"""The command line. Thin: each verb reads the configuration, calls one function and shows what came back.

What is heavy (pydantic, pandas, Spark) is imported inside the verbs, so that ``spinney --help`` answers at once.
"""

from __future__ import annotations

import os
from typing import Any

import click

from spinney.cli import champion, data, dead_letters, fleet, machine, migrate, register, run, tidy, trial
from spinney.core.errors import SpinneyError, exit_code


class Root(click.Group):
    """The verbs in the order in which a stranger meets them, and one place where errors become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SpinneyError as error:
            if ctx.params.get("debug") or os.environ.get("SPINNEY_DEBUG"):
                raise
            click.echo(f"spinney: {error}", err=True)
            ctx.exit(exit_code(error))


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="spinney")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; SPINNEY_DEBUG=1 does the same.")
def main(debug: bool) -> None:
    """Keeps a fleet of small models fresh: one per group, refitted when it goes stale.

    Exit codes: 0 done, 1 a finding or failure, 2 wrong usage or configuration.
    """
    del debug  # read by Root.invoke


for verb in (
    *run.VERBS[:1],
    *machine.VERBS,
    *data.VERBS,
    *trial.VERBS,
    *run.VERBS[1:],
    *dead_letters.VERBS,
    *fleet.VERBS,
    *champion.VERBS,
    *register.VERBS,
    *tidy.VERBS,
    *migrate.VERBS,
):
    main.add_command(verb)
