"""Base of the configuration's sections: keys with a meaning, and plain types of values."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, Strict

Int = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Bool = Annotated[bool, Strict()]


def config_key(
    default: Any = ..., *, meaning: str, implemented: bool = True, retired: bool = False, **constraints: Any
) -> Any:
    """Return a pydantic field for a key.

    meaning: one sentence for the docs. implemented: False for a planned key, which only accepts its default. retired:
    True for a key that is still accepted but has no effect any more. constraints: pydantic's (ge, le, min_length …).
    """
    return Field(
        default, description=meaning, json_schema_extra={"implemented": implemented, "retired": retired}, **constraints
    )


class Section(BaseModel):
    """One table of the file. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
