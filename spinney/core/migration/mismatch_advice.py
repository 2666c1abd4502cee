"""Advice about `spinney migrate` for messages, where the configured columns or loss differ from those of the tables."""

from __future__ import annotations

from typing import Final

END_IT: Final = (
    "Run `spinney migrate --yes` with the same configuration again, or put [fleet.columns] and fleet.loss back and run "
    "it"
)
"""Remedy for a migration that was begun and has not ended."""

PUT_BACK_OR_MIGRATE: Final = (
    "Put it back, or look with `spinney migrate` at what the change means and carry it out with `spinney migrate --yes`"
)
"""Remedy for a column or a loss that was edited."""

IF_RENAMED: Final = "If it is the same column by another name: `spinney migrate --rename OLD=NEW`."
"""Remedy for an edited target or group column, which may be a renamed one."""

MIGRATING: Final = "`spinney migrate` says what that means; with --yes it"
"""The beginning of a remedy; the caller adds the effect on the column, such as "drops it"."""


def renaming(name: str, new: str) -> str:
    """Return the advice about a column that may have been renamed."""
    return f"`spinney migrate --rename {name}={new}` says what a new name means."
