"""The limits of CONTRIBUTING.md that ruff does not check: lines of a module, lines of a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    file for folder in ("spinney", "streaming", "batch", "demo", "schemas") for file in (ROOT / folder).rglob("*.py")
)
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 40


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}


def function_lines(text: str) -> Iterator[tuple[str, int]]:
    """Name of each function and its number of lines, without blank lines and its docstring."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            is_documented = ast.get_docstring(node, clean=False) is not None
            docstring = range(first.lineno, (first.end_lineno or 0) + 1) if is_documented else ()
            numbers = range(node.lineno, (node.end_lineno or 0) + 1)
            yield node.name, sum(1 for number in numbers if lines[number - 1].strip() and number not in docstring)


def test_no_module_is_longer_than_400_lines(texts: dict[str, str]) -> None:
    assert {name: text.count("\n") for name, text in texts.items() if text.count("\n") > MAX_MODULE_LINES} == {}


def test_no_function_is_longer_than_40_lines(texts: dict[str, str]) -> None:
    long = {
        f"{name}:{function}": lines
        for name, text in texts.items()
        for function, lines in function_lines(text)
        if lines > MAX_FUNCTION_LINES
    }
    assert long == {}
