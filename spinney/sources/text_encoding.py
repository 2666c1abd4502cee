"""Detect the encoding of a text file."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from spinney.core.errors import ContractError

SAMPLE_BYTES = 256 * 1024
_CHECKED_BYTES = 1 << 22
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks; those of UTF-32 first, since one of them begins as UTF-16's does."""

_PACKED = {b"\x1f\x8b": "gzip (.gz)", b"\x28\xb5\x2f\xfd": "zstd (.zst)", b"PK\x03\x04": "zip (.zip, .xlsx)"}
_NOT_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


def detect_encoding(file: Path, name: str, given: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the encoding by Python's name, and a note if it was guessed. name: of the file, for messages.

    A byte order mark decides. Without one the encoding is UTF-8 if the whole file is valid UTF-8, and guessed if not.

    Raises ContractError for a file without a mark that is compressed, like UTF-16, or UTF-8 except for a few bytes.
    """
    with file.open("rb") as opened:
        start = opened.read(SAMPLE_BYTES)
    named = named_encoding(start, given)
    if named is not None:
        return named, ()
    refuse_other_bytes(name, start)
    at = _first_byte_outside_utf8(file)
    if at is None:
        return "utf-8", ()
    _refuse_mixed_bytes(file, name, at)
    encoding = "latin-1" if _has_bytes_outside_cp1252(file) else "cp1252"
    note = f"{Path(name).name}: not UTF-8 at byte {at:,}, so it is read as {encoding}; --encoding names another"
    return encoding, (note,)


def named_encoding(start: bytes, given: str | None) -> str | None:
    """Return the encoding that a file's byte order mark or the user names; None if neither does.

    start: the first bytes of the file. The mark decides the order of bytes, and also takes precedence over UTF-8.
    """
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    if given is None or marked is None:
        return given or marked
    name = codecs.lookup(given).name
    return marked if name == "utf-8" or name.startswith(marked.removesuffix("-sig")) else given


def refuse_other_bytes(name: str, start: bytes) -> None:
    """Raise ContractError for a file without a byte order mark that begins like a compressed file or like UTF-16.

    name: for messages. start: the file's first bytes.
    """
    packed = next((ending for mark, ending in _PACKED.items() if start.startswith(mark)), None)
    if packed is not None:
        raise ContractError(f"{name}: expected text; it begins as {packed}. Unpack it, or give it the right ending")
    if start.count(0) > len(start) // 4:
        raise ContractError(
            f"{name}: expected text; every other byte or more is zero, as in UTF-16 without a byte order mark. "
            "Name it: --encoding utf-16-le"
        )


def _refuse_mixed_bytes(file: Path, name: str, at: int) -> None:
    """Raise ContractError if a file is UTF-8 except for a few bytes: another encoding would change its other texts.

    at: the first byte that is not UTF-8. In texts of another encoding hardly any bytes are UTF-8 by chance.
    """
    characters, others = _count_beyond_ascii(file)
    if characters < others:
        return
    with file.open("rb") as opened:
        line = opened.read(at).count(b"\n") + 1
        byte = opened.read(1)[0]
    raise ContractError(
        f"{name}: line {line:,}: expected UTF-8, as {characters:,} other characters are; got the byte 0x{byte:02x} at "
        f"byte {at:,}. Correct the line, or name the encoding of the whole file by --encoding"
    )


def _count_beyond_ascii(file: Path) -> tuple[int, int]:
    """Return the number of characters beyond ASCII in UTF-8, and of bytes or parts of characters that are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    characters = others = 0
    with file.open("rb") as opened:
        while True:
            part = opened.read(_CHECKED_BYTES)
            text = decoder.decode(part, final=not part)
            replaced = text.count("\ufffd")
            characters += len(text) - len(text.encode("ascii", "ignore")) - replaced
            others += replaced
            if not part:
                return characters, others


def _first_byte_outside_utf8(file: Path) -> int | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = 0
    with file.open("rb") as opened:
        while part := opened.read(_CHECKED_BYTES):
            kept = len(decoder.getstate()[0])
            try:
                decoder.decode(part)
            except UnicodeDecodeError as error:
                return before - kept + error.start
            before += len(part)
    unfinished = len(decoder.getstate()[0])
    return before - unfinished if unfinished else None


def _has_bytes_outside_cp1252(file: Path) -> bool:
    with file.open("rb") as opened:
        while part := opened.read(_CHECKED_BYTES):
            if _NOT_IN_CP1252.search(part):
                return True
    return False
