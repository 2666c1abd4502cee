"""The Spark session for tests of whole streams: their few rows are sooner interpreted than plans are compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

FACTORY_MODE = "spark.sql.codegen.factoryMode"
COMPILED = "COMPILED_PLANS"
"""A module of tests that sets this to True gets the session as users have it."""


@pytest.fixture(scope="module")
def spark(spark: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The session of the run, which interprets the expressions of queries that are started or run in this module.

    `retrain` makes a session of its own (`sibling_session`) and goes on compiling.
    """
    if getattr(request.module, COMPILED, False):
        yield spark
        return
    spark.conf.set(FACTORY_MODE, "NO_CODEGEN")
    yield spark
    spark.conf.unset(FACTORY_MODE)
