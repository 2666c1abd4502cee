"""Check that the files of a source have the required columns, each once, and agree about their types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from unicodedata import normalize

import pyarrow as pa
from pyarrow import types

from spinney.core.errors import ContractError
from spinney.sources.json_lines import SAMPLE_LINES
from spinney.sources.nested_columns import paths_to
from spinney.sources.options import ColumnSelection, ReadOptions
from spinney.sources.row_batch import DataFile

_FAMILIES = (
    ("a number", (types.is_integer, types.is_floating, types.is_decimal)),
    ("text", (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)),
    ("true or false", (types.is_boolean,)),
    ("a time", (types.is_timestamp, types.is_date)),
    ("a time of day", (types.is_time,)),
    ("a duration", (types.is_duration,)),
    ("a list", (types.is_list, types.is_large_list, types.is_fixed_size_list)),
    ("an object", (types.is_struct, types.is_map)),
)


def check_columns(files: Sequence[DataFile], options: ReadOptions) -> tuple[str, ...]:
    """Return notes about optional columns that no file has.

    Raises ContractError, naming file and column, in three cases: a required column is missing; only some of the files
    have a column (unless `missing_as_null`); a column's type is of another family than in the first file. Integers and
    fractions are one family. The columns of JSON lines are the fields of the first objects of each file.
    """
    typed = [file for file in files if _all_columns(file) is not None]
    if not typed:
        return ()
    notes = []
    for name in _column_names(typed, options):
        with_it = [file for file in typed if _column(file, name, options) is not None]
        _refuse_missing(name, typed, with_it, options)
        _refuse_other_types(name, with_it, options)
        is_optional = options.selection is not None and name in options.selection.optional
        if not with_it and not is_optional:
            notes.append(f"column {name}: {_null_everywhere_note(typed)}{_similar_name_hint(name, typed)}")
    return tuple(notes)


def refuse_duplicate_columns(name: str, columns: Sequence[str], options: ReadOptions) -> None:
    """Raise ContractError if a file has a selected column more than once. columns: as the file has them."""
    for column in options.selection.select(columns) if options.selection else ():
        if (times := columns.count(column)) > 1:
            raise ContractError(
                f"{name}: column {column}: expected once; the file has {times} of this name. Rename or leave out the "
                "others"
            )


def refuse_duplicate_fields(name: str, schema: pa.Schema, options: ReadOptions) -> None:
    """Raise ContractError if the path of a selected column leads to several fields of an object."""
    repeated = find_repeated_fields(schema)
    for column in options.selection.names if options.selection and repeated else ():
        for path in repeated:
            if column not in schema.names and f"{column}.".startswith(f"{path}."):
                raise ContractError(
                    f"{name}: column {column}: expected {path} once in its object; the file has several of this name. "
                    "Rename or leave out the others"
                )


def find_repeated_fields(columns: Iterable[pa.Field], before: str = "") -> tuple[str, ...]:
    """Return the paths of the names that several fields of an object have, each once. columns: of the file, or inside
    the object whose path is `before`.
    """
    fields = list(columns)
    here = find_repeated_columns([field.name for field in fields]) if before else ()
    inside = (
        find_repeated_fields(field.type, f"{before}{field.name}.")
        for field in fields
        if types.is_struct(field.type) and field.name not in here
    )
    return (*(f"{before}{name}" for name in here), *(path for paths in inside for path in paths))


def find_repeated_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names that several columns of a file have, each once. A column may have no name."""
    return tuple(column for column, times in Counter(filter(None, columns)).items() if times > 1)


def left_out_note(column: str) -> str:
    """Return the note about columns that are left out because a file has several columns of this name."""
    return f"column {column}: left out, since several columns have this name. Rename them in the file to use them"


def unreadable_note(column: str) -> str:
    """Return the note about a column that Arrow cannot read."""
    return f"column {column}: left out, since Arrow cannot read lists of a fixed size with gaps from Parquet"


def missing_columns_error(
    name: str, selection: ColumnSelection, columns: Iterable[str], lacking: Sequence[str]
) -> ContractError:
    """Return the error for a file that lacks required columns. columns: those it has. lacking: the missing ones."""
    present = [_visible(column) for column in columns]
    required = [column for column in selection.names if column in selection.required]
    return ContractError(
        f"{name}: expected the columns {', '.join(required)}; it lacks {', '.join(lacking)} and has "
        f"{', '.join(present) or 'none'}. Add them, or say under which names the file has them: [fleet.fields]"
    )


def type_family(kind: pa.DataType) -> str | None:
    """Return the family of a type, by which the types of a column in several files are compared; None for a type
    without values.
    """
    if types.is_dictionary(kind):
        return type_family(kind.value_type)
    if types.is_null(kind):
        return None
    return next((name for name, tests in _FAMILIES if any(test(kind) for test in tests)), str(kind))


def _all_columns(file: DataFile) -> Mapping[str, pa.DataType] | None:
    return file.fields if file.columns is None else file.columns


def _null_everywhere_note(files: Sequence[DataFile]) -> str:
    if any(file.columns is None for file in files):
        return f"in none of the first {SAMPLE_LINES:,} lines of any file, so it is null in these rows"
    return "in no file, so it is null in every row"


def _similar_name_hint(name: str, files: Sequence[DataFile]) -> str:
    """Return a hint about a column whose name differs in case, blanks and the like only; empty if there is none."""
    columns = dict.fromkeys(column for file in files for column in _all_columns(file) or ())
    similar = next((column for column in columns if _folded(column) == _folded(name) != ""), None)
    return "" if similar is None else f"; {_visible(similar)} is another name: [fleet.fields] can name it"


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, normalize("NFKC", name).casefold()))


def _visible(name: str) -> str:
    """Return a name of a column, escaped if it looks like another one: with blanks at an end, or with characters that
    are invisible or composed of several.
    """
    is_plain = name == name.strip() and name.isprintable() and normalize("NFC", name) == name
    return name if is_plain else ascii(name)


def _absence_text(file: DataFile) -> str:
    return f"it is in none of the first {SAMPLE_LINES:,} lines" if file.columns is None else "it is not there"


def _column_names(files: Sequence[DataFile], options: ReadOptions) -> list[str]:
    if options.selection is not None:
        return list(options.selection.names)
    return list(dict.fromkeys(name for file in files for name in _leaf_types(_all_columns(file) or {})))


def _column(file: DataFile, name: str, options: ReadOptions) -> str | None:
    columns = _all_columns(file) or {}
    if options.selection is None:
        return name if name in _leaf_types(columns) else None
    return next((column for column, *_ in paths_to(columns, name, has_objects=False)), None)


def _leaf_types(columns: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Return path → type of the columns; for a column of objects, those of the fields inside instead."""
    leaves: dict[str, pa.DataType] = {}
    for name, kind in columns.items():
        inside = {f"{name}.{field.name}": field.type for field in kind} if types.is_struct(kind) else {}
        leaves |= _leaf_types(inside) if inside else {name: kind}
    return leaves


def _refuse_missing(name: str, files: Sequence[DataFile], with_it: Sequence[DataFile], options: ReadOptions) -> None:
    if len(with_it) == len(files):
        return
    without = next(file for file in files if file not in with_it)
    if options.selection is not None and name in options.selection.required:
        lacking = [column for column in options.selection.names if column in options.selection.required]
        lacking = [column for column in lacking if _column(without, column, options) is None]
        raise missing_columns_error(without.name, options.selection, _all_columns(without) or (), lacking)
    if with_it and not options.missing_as_null:
        raise ContractError(
            f"{without.name}: column {name}: expected, since {with_it[0].name} has it; {_absence_text(without)}. Add "
            "it, or pass --missing-as-null if its rows have no value"
        )


def _refuse_other_types(name: str, files: Sequence[DataFile], options: ReadOptions) -> None:
    first: tuple[str, DataFile] | None = None
    for file in files:
        columns = _all_columns(file) or {}
        kind = (columns if options.selection is not None else _leaf_types(columns)).get(name)
        column_family = None if kind is None else type_family(kind)
        if column_family is None:
            continue
        if first is None:
            first = (column_family, file)
        elif first[0] != column_family:
            raise ContractError(
                f"{file.name}: column {name}: expected {first[0]}, as in {first[1].name}; got {column_family}. "
                "Write the files with one type"
            )
