"""Whether the files of a source agree about the columns that matter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
from pyarrow import types

from spinney.core.errors import ContractError
from spinney.sources.batch import DataFile
from spinney.sources.options import Options, Wanted

_FAMILIES = (
    ("a number", (types.is_integer, types.is_floating, types.is_decimal)),
    ("text", (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)),
    ("true or false", (types.is_boolean,)),
    ("a time", (types.is_timestamp, types.is_date)),
)


def check(files: Sequence[DataFile], options: Options) -> tuple[str, ...]:
    """Notes about columns that are in no file.

    Raises ContractError, naming file and column: one that is required and not there, one that only some of the files
    have (unless `missing_as_null`), or one that is of another family of types than in the first file. Integers beside
    fractions are no difference.
    """
    typed = [file for file in files if file.columns is not None]
    if not typed:
        return ()
    notes = []
    for name in _names(typed, options):
        with_it = [file for file in typed if _column(file, name, options) is not None]
        _refuse_missing(name, typed, with_it, options)
        _refuse_other_types(name, with_it, options)
        is_optional = options.wanted is not None and name in options.wanted.optional
        if not with_it and not is_optional:
            notes.append(f"column {name}: in no file, so it is null in every row")
    return tuple(notes)


def without_required(name: str, wanted: Wanted, columns: Iterable[str], lacking: Sequence[str]) -> ContractError:
    """The error of a file that lacks a required column. columns: those that it has."""
    there = list(columns)
    required = [each for each in wanted.names if each in wanted.required]
    return ContractError(
        f"{name}: expected the columns {', '.join(required)}; it lacks {', '.join(lacking)} and has "
        f"{', '.join(there) or 'none'}. Add them, or say under which names the file has them: [fleet.fields]"
    )


def family(kind: pa.DataType) -> str | None:
    """What a type is in words that decide whether two files agree; None for one without any value."""
    if types.is_dictionary(kind):
        return family(kind.value_type)
    if types.is_null(kind):
        return None
    return next((name for name, tests in _FAMILIES if any(test(kind) for test in tests)), str(kind))


def _names(files: Sequence[DataFile], options: Options) -> list[str]:
    if options.wanted is not None:
        return list(options.wanted.names)
    return list(dict.fromkeys(name for file in files for name in file.columns or ()))


def _column(file: DataFile, name: str, options: Options) -> str | None:
    columns: Mapping[str, pa.DataType] = file.columns or {}
    if name in columns or options.wanted is None:
        return name if name in columns else None
    found = options.wanted.in_file(name, columns)
    return found if found is not None and _reaches(columns[found], name.split(".")[1:]) else None


def _reaches(kind: pa.DataType, path: Sequence[str]) -> bool:
    """Whether a nested type has a field of this path."""
    for name in path:
        if not types.is_struct(kind) or kind.get_field_index(name) < 0:
            return False
        kind = kind.field(kind.get_field_index(name)).type
    return True


def _refuse_missing(name: str, files: Sequence[DataFile], with_it: Sequence[DataFile], options: Options) -> None:
    if len(with_it) == len(files):
        return
    without = next(file for file in files if file not in with_it)
    if options.wanted is not None and name in options.wanted.required:
        lacking = [each for each in options.wanted.names if each in options.wanted.required]
        lacking = [each for each in lacking if _column(without, each, options) is None]
        raise without_required(without.name, options.wanted, without.columns or (), lacking)
    if with_it and not options.missing_as_null:
        raise ContractError(
            f"{without.name}: column {name}: expected, since {with_it[0].name} has it; it is not there. Add it, or "
            "pass --missing-as-null if its rows have no value"
        )


def _refuse_other_types(name: str, files: Sequence[DataFile], options: Options) -> None:
    first: tuple[str, DataFile] | None = None
    for file in files:
        column = _column(file, name, options)
        found = family((file.columns or {})[column]) if column == name else None
        if found is None:
            continue
        if first is None:
            first = (found, file)
        elif first[0] != found:
            raise ContractError(
                f"{file.name}: column {name}: expected {first[0]}, as in {first[1].name}; got {found}. "
                "Write the files with one type"
            )
