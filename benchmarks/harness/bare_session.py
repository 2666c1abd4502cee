"""Start Spark with the fleet's settings, run one job, end: ``python -m harness.bare_session fleet.toml``.

What every command that needs Spark has to pay.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from spinney.cli.options import spark_session
from spinney.storage.config_file import read_config


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    (config,) = sys.argv[1:] if arguments is None else arguments
    print(spark_session(read_config(config)).range(1000).selectExpr("sum(id)").count())


if __name__ == "__main__":
    main()
