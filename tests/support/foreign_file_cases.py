"""Files of the kinds that public bug reports and data packages show, with the rows that each gives, written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from file_cases import AT, CLASSIC, Case, Dead, text

from spinney.sources import ReadOptions, TextFormat

_TYPES = {"store": "string", "id": "string", "at": "timestamp"}


def _record(**values: Any) -> dict[str, Any]:
    return {"store": "a", "id": "1", "at": AT, "x": 1.5, "sold": 2} | values


_TWO = [_record(note="},{"), _record(id="2", x=-0.5)]
_TWO_ROWS = {
    "1": {"store": "a", "x": 1.5, "note": "},{", "sold": 2.0},
    "2": {"store": "a", "x": -0.5, "sold": 2.0},
}
_JSON_SPELLINGS = {
    "in an array": json.dumps(_TWO),
    "in an indented array": json.dumps(_TWO, indent=2),
    "indented, one after another": "\n".join(json.dumps(each, indent=1) for each in _TWO),
    "one after another in one line": "".join(map(json.dumps, _TWO)),
    "with a comma after each": "".join(f"{json.dumps(each)},\r\n" for each in _TWO),
    "with record separators before each": "".join(f"\x1e{json.dumps(each)}\n" for each in _TWO),
    "in lines that end in carriage returns": "".join(f"{json.dumps(each)}\r" for each in _TWO),
}


def _options(**how: Any) -> ReadOptions:
    return ReadOptions(TextFormat(**how))


def _folder_with_an_empty_part(folder: Path) -> Path:
    (folder / "parts").mkdir()
    (folder / "parts" / "part-0.csv").write_text("")
    return text("parts/part-1.csv", f"store,id,at,x,sold\na,1,{AT},1.5,2\n")(folder).parent


def _semicolons(content: str) -> Callable[[Path], Path]:
    return text("a.csv", content.replace(",", ";").replace("§", ","))


FOREIGN_CASES = (
    *(
        Case(f"JSON objects {how}", CLASSIC, text("a.json", spelled), _TWO_ROWS, {**_TYPES, "x": "double"})
        for how, spelled in _JSON_SPELLINGS.items()
    ),
    Case(
        "an array in UTF-16 with records that are not valid",
        CLASSIC,
        text("a.json", json.dumps([_record(store="Köln"), 7, {}], ensure_ascii=False), "utf-16"),
        {"1": {"store": "Köln", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
        dead=(Dead("not_an_object", None, 2), Dead("missing_field", "id", 3)),
    ),
    Case(
        "a line that names the delimiter, as Excel writes it",
        CLASSIC,
        text("a.csv", f'\ufeff"sep=;"\r\nstore;id;at;x;sold\r\na;1;{AT};1,5;2\r\n'),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
    Case(
        "a title above the header",
        CLASSIC,
        text("a.csv", f'Sales, "all\r\n\r\nstore,id,at,x,sold\r\na,1,{AT},1.5,2\r\n'),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
        options=_options(skip_lines=1),
    ),
    Case(
        "a delimiter at the end of each row but the header",
        CLASSIC,
        text("a.csv", f"store,id,at,x,sold\na,1,{AT},1.5,2,\na,2,{AT},-0.5,2,\n"),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}, "2": {"store": "a", "x": -0.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
    Case(
        "numbers with commas between thousands",
        CLASSIC,
        text(
            "a.csv",
            f'store,id,at,x,n,note,sold\na,1,{AT},"1,234.5","1,234,567","1,000 m",2\n'
            f'a,2,{AT},0.5,"1,234,567",,"2,000"\n',
        ),
        {
            "1": {"store": "a", "x": 1234.5, "n": 1_234_567, "note": "1,000 m", "sold": 2.0},
            "2": {"store": "a", "x": 0.5, "n": 1_234_567, "sold": 2000.0},
        },
        {**_TYPES, "x": "double", "n": "bigint", "sold": "bigint"},
        features=("x", "n"),
        options=_options(thousands=","),
    ),
    Case(
        "numbers with blanks that do not break between thousands",
        CLASSIC,
        _semicolons(f"store,id,at,x,sold\na,1,{AT},1\u00a0234§5,2\na,2,{AT},-1\u202f000\u202f000,2\n"),
        {"1": {"store": "a", "x": 1234.5, "sold": 2.0}, "2": {"store": "a", "x": -1e6, "sold": 2.0}},
        {**_TYPES, "x": "double"},
        options=_options(thousands=" "),
    ),
    Case(
        "points that may separate thousands in a file with decimal commas",
        CLASSIC,
        _semicolons(f"store,id,at,x,note,sold\na,1,{AT},1§5,v1.2,2\na,2,{AT},1.234,,2\n"),
        {"1": {"store": "a", "x": 1.5, "note": "v1.2", "sold": 2.0}},
        {**_TYPES, "x": "double"},
        dead=(Dead("not_an_object", None, 2, is_unsplit=True),),
        options=_options(decimal=","),
    ),
    Case(
        "points between thousands in a file with decimal commas",
        CLASSIC,
        _semicolons(f"store,id,at,x,sold\na,1,{AT},1.234§5,2\na,2,{AT},1.234,2\na,3,{AT},1.5,2\n"),
        {"1": {"store": "a", "x": 1234.5, "sold": 2.0}, "2": {"store": "a", "x": 1234.0, "sold": 2.0}},
        {**_TYPES, "x": "double"},
        dead=(Dead("not_an_object", None, 3, is_unsplit=True),),
        options=_options(thousands="."),
    ),
    Case(
        "a folder with a file without any bytes",
        CLASSIC,
        _folder_with_an_empty_part,
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
    Case(
        "text with another ending than .csv",
        CLASSIC,
        text("a.txt", f"store|id|at|x|sold\na|1|{AT}|1.5|2\n"),
        {"1": {"store": "a", "x": 1.5, "sold": 2.0}},
        {**_TYPES, "x": "double"},
    ),
)
