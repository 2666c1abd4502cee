"""What users read when something is wrong has one form: ``what: expected …; got …. Do this``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted(
    str(file.relative_to(ROOT))
    for folder in ("spinney", "schemas", "streaming", "batch")
    for file in (ROOT / folder).rglob("*.py")
)
OTHER_FORM = re.compile(r" — |expected\b[^;]*, got\b")


def raised(tree: ast.AST) -> Iterator[str]:
    """The text of each raise, and of what is named `text` or `msg` to be raised: literals alone, in their order."""
    for node in ast.walk(tree):
        named = isinstance(node, ast.Assign) and {getattr(each, "id", "") for each in node.targets} & {"text", "msg"}
        if named or isinstance(node, ast.Raise):
            parts = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
            yield "".join(part for part in parts if isinstance(part, str))


def test_every_error_has_the_one_form() -> None:
    trees = {file: ast.parse((ROOT / file).read_text(encoding="utf-8")) for file in FILES}
    odd = [(file, text) for file, tree in trees.items() for text in raised(tree) if OTHER_FORM.search(text)]
    assert odd == []


def test_the_two_other_forms_are_found() -> None:
    tree = ast.parse(
        "raise E(f'rows — {x} — expected y')\ntext = 'k: expected a, got b'\nraise E('k: expected a; got b')"
    )
    assert [bool(OTHER_FORM.search(text)) for text in raised(tree)] == [True, True, False]
