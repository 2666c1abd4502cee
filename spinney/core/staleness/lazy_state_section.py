"""A part of a state that is decoded and encoded only when it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LazySection(Generic[T]):
    """An immutable value, its bytes, or both.

    read: decodes bytes. write: encodes a value.
    """

    def __init__(
        self, read: Callable[[bytes], T], write: Callable[[T], bytes], value: T | None = None, blob: bytes | None = None
    ) -> None:
        self._read, self._write, self._value, self._blob = read, write, value, blob

    @property
    def value(self) -> T:
        """The value, decoded on first use."""
        if self._value is None:
            assert self._blob is not None, "a section has bytes or a value"
            self._value = self._read(self._blob)
        return self._value

    @property
    def blob(self) -> bytes:
        """The bytes, encoded on first use."""
        if self._blob is None:
            self._blob = self._write(self.value)
        return self._blob

    def with_value(self, value: T) -> LazySection[T]:
        """Return a section with another value."""
        return LazySection(self._read, self._write, value)
