"""Numbers of examples that grow with the profile of the run."""

from __future__ import annotations

from typing import Any

from hypothesis import settings


def examples(count: int, **more: Any) -> settings:
    """Settings of a property of which `make test` tries ``count`` examples and `make search` proportionally more.

    A plain ``settings(max_examples=…)`` would hold in every profile. more: further settings.
    """
    usual, now = settings.get_profile("repeatable").max_examples, settings.default.max_examples
    return settings(max_examples=count * now // usual, **more)
