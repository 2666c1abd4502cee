"""The page `docs/configuration.md`, derived from the models; ``python -m spinney.core.config.reference`` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from spinney.core import durations
from spinney.core.column_names import PREFIX
from spinney.core.config.client_options import SET_BY_THE_FLEET
from spinney.core.config.findings import expectation, model_at
from spinney.core.config.models import Config
from spinney.core.config.rules import RESERVED
from spinney.core.config.toml_text import toml
from spinney.core.config.values import TYPES

_BEFORE = """\
# Configuration: `fleet.toml`

This page is derived from `spinney/core/config/models.py` by `python -m spinney.core.config.reference`; a test compares
them.

A fleet is one TOML file. Unknown keys are errors, and so are keys that are not in effect yet when they are set to
anything but their default. `spinney check` reports everything that is wrong at once, `spinney check --show` the values
in effect and where each came from.

Every key can be overridden from the environment as `SPINNEY_<SECTION>__<KEY>`, deeper keys with further `__`
(`SPINNEY_KAFKA__BOOTSTRAP_SERVERS`, `SPINNEY_STALENESS__ERROR_RISE__FACTOR`). Tables are given as TOML and merged:
`SPINNEY_KAFKA__OPTIONS='{ "sasl.jaas.config" = "…" }'`. The key that signs models is not in the file:
`SPINNEY_SIGNING_KEY`.

"""
_AFTER = """\
## Names and types

"""


def reference() -> str:
    """Return the page: every key with its type, its default, what it means and whether it is in effect."""
    lines = [_BEFORE.rstrip(), ""]
    for name, info in Config.model_fields.items():
        lines += _section(name, info)
    lines += [
        _AFTER.rstrip(),
        "",
        f"Column types: {', '.join(f'`{kind}`' for kind in TYPES)}.",
        "`integer`, `long`, `short`, `byte` and the like are read as their Spark SQL names.",
        "",
        f"A duration is {durations.EXPECTED.removeprefix('a duration: ')}.",
        "",
        f"Taken by the tables, so no column may be called: {', '.join(f'`{name}`' for name in sorted(RESERVED))}.",
        f"Names that begin with `{PREFIX}` are kept for Spinney's own columns elsewhere.",
        "A target may be called `label`, and the fields that are the event's id and time `event_id` and `event_time`.",
        "",
        f"The fleet's own, so refused in `kafka.options`: {', '.join(f'`{name}`' for name in SET_BY_THE_FLEET)}.",
    ]
    return "\n".join(lines) + "\n"


def _section(name: str, info: FieldInfo) -> Iterator[str]:
    model = model_at(Config, [name])
    yield f"## `[{name}]`"
    yield ""
    if model is None:
        yield str(info.description)
        yield ""
        return
    yield (model.__doc__ or "").strip()
    yield ""
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    for key, part in _keys(model, ""):
        default = (
            "**required**" if part.is_required() else f"`{toml(part.default)}`" if part.default is not None else "–"
        )
        late = "" if _in_effect(part) else " **Not in effect yet.**"
        words = expectation(part).replace(durations.EXPECTED, "a duration")
        yield f"| `{key}` | {words} | {default} | {part.description}{late} |"
    yield ""


def _keys(model: type[BaseModel], before: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}", info


def _in_effect(info: FieldInfo) -> bool:
    extra: Any = info.json_schema_extra
    return not isinstance(extra, dict) or extra.get("in_effect", True) is not False


if __name__ == "__main__":
    sys.stdout.write(reference())
