"""The JSON body of a request: parsed fast, and again exactly if a value needs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic_core import from_json

from spinney.core.records.json_columns import count_strings
from spinney.core.records.json_parsing import UnreadableError, read_value
from spinney.gateway.errors import RequestError


@dataclass(frozen=True)
class JsonBody:
    """The JSON body of a request.

    raw: the bytes. value: as `pydantic_core.from_json` parses them. has_nan: whether NaN is allowed, as null.
    """

    raw: bytes
    value: Any
    has_nan: bool = False

    @cached_property
    def exact(self) -> Any:
        """The value with numbers as NumberText. Raises RequestError, also if a name occurs twice in one object."""
        try:
            return read_value(self.raw.decode(), has_nan=self.has_nan)
        except UnreadableError as error:
            raise RequestError(400, error.reason.value, f"body: {error.detail}") from error

    def strings_beside(self, name: str) -> int:
        """Return the number of names and texts in an object's body, not counting those in the value of `name`."""
        return len(self.value) + sum(count_strings(value) for other, value in self.value.items() if other != name)

    def require_unique_names(self, strings: int | None = None) -> None:
        """Raise RequestError if a name occurs twice in one object, since the parser keeps only the last one.

        strings: number of names and texts in the whole value; None to count them.
        """
        quotes = self.raw.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
        if quotes != 2 * (count_strings(self.value) if strings is None else strings):
            _ = self.exact


def read_json(raw: bytes, *, has_nan: bool = False) -> JsonBody:
    """Parse a body. has_nan: whether NaN is allowed, which JSON does not have but Python writes.

    Raises RequestError if it is not JSON in UTF-8, or nested too deeply.
    """
    try:
        return JsonBody(raw, from_json(raw, allow_inf_nan=has_nan, cache_strings="keys"), has_nan)
    except ValueError as error:
        message = f"body: expected JSON in UTF-8, not nested deeply; got {len(raw)} bytes that are not: {error}"
        raise RequestError(400, "not_json", message) from error
