"""The page `docs/configuration.md`, generated from the models; ``python -m spinney.core.config.reference_page`` prints
it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from spinney.core import durations
from spinney.core.config.cross_checks import RESERVED_NAMES, is_retired
from spinney.core.config.findings import describe_expected, model_at
from spinney.core.config.reserved_options import RESERVED_OPTIONS
from spinney.core.config.sections import Config
from spinney.core.config.toml_formatting import to_toml
from spinney.core.config.value_types import TYPES
from spinney.core.internal_column_names import PREFIX

_BEFORE = """\
# Configuration: `fleet.toml`

This page is generated from `spinney/core/config/sections.py` by `python -m spinney.core.config.reference_page`; a test
compares them.

A fleet is configured by one TOML file. Unknown keys are errors. So are keys that are not implemented yet, if they are
set to anything but their default. `spinney check` reports all errors at once; `spinney check --show` prints the values
in effect and the origin of each.

Every key can be overridden by an environment variable, `SPINNEY_<SECTION>__<KEY>`, with further `__` for deeper keys
(`SPINNEY_KAFKA__BOOTSTRAP_SERVERS`, `SPINNEY_STALENESS__ERROR_RISE__PATIENCE`). Tables are written as TOML and merged:
`SPINNEY_KAFKA__OPTIONS='{ "sasl.jaas.config" = "…" }'`
([why](decisions/0029-overrides-from-the-environment.md)). The key that signs models is not in the file but in
`SPINNEY_SIGNING_KEY`.

"""
_AFTER = """\
## Names and types

"""


def reference() -> str:
    """Return the page: every key with its type, default and meaning, and whether it is implemented."""
    lines = [_BEFORE.rstrip(), ""]
    for name, info in Config.model_fields.items():
        lines += _section(name, info)
    lines += [
        _AFTER.rstrip(),
        "",
        f"Column types: {_names(TYPES)}.",
        "Aliases such as `integer`, `long`, `short` and `byte` are accepted.",
        "",
        f"A duration is {durations.EXPECTED.removeprefix('a duration: ')}.",
        "",
        f"Names of table columns, so no column may be called: {_names(sorted(RESERVED_NAMES))}.",
        f"Names that begin with `{PREFIX}` are reserved for internal columns.",
        "A target may be called `label`, and the fields that are the event's id and time `event_id` and `event_time`.",
        "",
        f"Set by the fleet itself, so refused in `kafka.options`: {_names(RESERVED_OPTIONS)}.",
    ]
    return "\n".join(lines) + "\n"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


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
            "**required**" if part.is_required() else f"`{to_toml(part.default)}`" if part.default is not None else "–"
        )
        late = "" if _is_implemented(part) else " **Not implemented yet.**"
        late = " **Without effect.**" if is_retired(part) else late
        words = describe_expected(part).replace(durations.EXPECTED, "a duration")
        yield f"| `{key}` | {words} | {default} | {part.description}{late} |"
    yield ""


def _keys(model: type[BaseModel], before: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}", info


def _is_implemented(info: FieldInfo) -> bool:
    extra: Any = info.json_schema_extra
    return not isinstance(extra, dict) or extra.get("implemented", True) is not False


if __name__ == "__main__":
    sys.stdout.write(reference())
