"""Deletes dead letters, in the process that holds the lease of `ingest`, since a table has one writer.

If a stream holds the lease, a request in a file asks that process to delete them, as `spinney tidy` does.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.vocabulary import QueryName
from spinney.core import timestamps
from spinney.core.errors import Busy, StoreError
from spinney.operations.dead_letters.letters import IDENTITY, DeadLetters, LetterFilter
from spinney.operations.request_files import read_request_file, write_request_file
from spinney.storage import leases
from spinney.storage.layout import FleetStore

LOOK_SECONDS = 0.2


def purge(store: FleetStore, choice: LetterFilter, wait_seconds: float = 60.0) -> int:
    """Delete the selected dead letters stored so far; return their number.

    `spinney tidy` removes the files a week later.

    Raises StoreError: they could not be deleted. Busy: the stream that writes the table did not answer in time.
    """
    asked_at = datetime.now(UTC)
    choice = replace(choice, before=min(choice.before or asked_at, asked_at))
    request = _write_request(store, choice, asked_at + timedelta(seconds=wait_seconds))
    try:
        return _await_answer(store, choice, request, wait_seconds)
    finally:
        _withdraw_request(store, request)  # the caller has stopped waiting


def _await_answer(store: FleetStore, choice: LetterFilter, request: str, wait_seconds: float) -> int:
    until = time.monotonic() + wait_seconds
    while True:
        try:
            with leases.held(store, [QueryName.INGEST]):
                answer: dict[str, Any] | None = read_request_file(_request_file(store, "served"))
                if answer is None or answer["id"] != request:
                    answer = _carry_out(store, choice, request)
        except Busy as error:
            answer = read_request_file(_request_file(store, "served"))
            if time.monotonic() >= until and (answer is None or answer["id"] != request):
                raise Busy(f"dead letters: {error}; it did not answer within {wait_seconds:g} s") from error
        if answer is not None and answer["id"] == request:
            if answer["error"] is not None:
                raise StoreError(f"dead letters: expected the stream to delete them; got {answer['error']}")
            return int(answer["forgotten"])
        time.sleep(LOOK_SECONDS)


def serve_purge(store: FleetStore, writing: threading.Lock) -> None:
    """Carry out the pending request to delete dead letters, if there is one and its deadline has not passed.

    The caller must hold the lease of `ingest`. writing: lock that is held for the commit.
    """
    request = read_request_file(_request_file(store, "request"))
    if request is None:
        return
    if datetime.now(UTC) <= datetime.fromisoformat(request["until"]):
        with writing:
            answer = _carry_out(store, _decode_filter(request["choice"]), request["id"])
        write_request_file(_request_file(store, "served"), answer)
    _withdraw_request(store, request["id"])


def _carry_out(store: FleetStore, choice: LetterFilter, request: str) -> dict[str, Any]:
    """Carry out a request; return the answer to it."""
    answer: dict[str, Any] = {"id": request, "forgotten": 0, "error": None}
    try:
        answer["forgotten"] = _forget(store, choice)
    except Exception as error:  # reported to the caller; a stream goes on
        answer["error"] = str(error)
    return answer


def count_letters(letters: DeadLetters) -> int:
    """Return the number of selected dead letters."""
    return sum(rows.num_rows for rows in letters.batches(IDENTITY[:1]))


def _forget(store: FleetStore, choice: LetterFilter) -> int:
    letters = DeadLetters.opened(store, choice)
    rows = count_letters(letters)
    if rows:
        letters.table.delete(" AND ".join(_sql_conditions(choice)) or None)
    return rows


def _sql_conditions(choice: LetterFilter) -> Iterator[str]:
    """Return the filter as SQL conditions."""
    if choice.reasons:
        yield f"reason IN ({_texts(choice.reasons)})"
    if choice.fields:
        yield f"field IN ({_texts(choice.fields)})"
    for sign, at in ((">=", choice.since), ("<", choice.before)):
        if at is not None:
            kind = """'Timestamp(Microsecond, Some("UTC"))'"""
            yield f"ingested_at {sign} arrow_cast({timestamps.to_microseconds(at)}, {kind})"


def _texts(values: Sequence[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def _write_request(store: FleetStore, choice: LetterFilter, until: datetime) -> str:
    """Write the request. Returns its id. A later request replaces an earlier one.

    until: the request is not carried out after this time, so that it has no effect later if this process is killed
    before it withdraws the request.
    """
    made = uuid.uuid4().hex
    write_request_file(_request_file(store, "request"), {"id": made, "until": until, "choice": asdict(choice)})
    return made


def _withdraw_request(store: FleetStore, request: str) -> None:
    """Remove the request, unless a later one has replaced it."""
    pending = read_request_file(_request_file(store, "request"))
    if pending is not None and pending["id"] == request:
        _request_file(store, "request").unlink(missing_ok=True)


def _decode_filter(choice: dict[str, Any]) -> LetterFilter:
    since, before = (
        None if choice[name] is None else datetime.fromisoformat(choice[name]) for name in ("since", "before")
    )
    return LetterFilter(tuple(choice["reasons"]), tuple(choice["fields"]), since, before)


def _request_file(store: FleetStore, what: str) -> Path:
    return store.folder / "purge" / what
