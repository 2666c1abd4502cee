"""A fleet of shops for tests of what its `[kafka]` section says."""

from __future__ import annotations

from spinney.core.config import Config, parse

TEXT = """\
[fleet]
group = ["shop"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["price"]
columns = {{ shop = "string", price = "double", sold = "int" }}
[kafka]
{kafka}
[storage]
root = "work/sales"
"""


def fleet_with(*kafka: str) -> Config:
    """The fleet whose `[kafka]` section has these lines."""
    return parse(TEXT.format(kafka="\n".join(kafka)), "fleet.toml", {})
