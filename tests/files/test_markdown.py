"""Every page can be read in a plain editor, and every link of a page leads to a file and a heading that exist."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 120
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
)
GENERATED = {"docs/configuration.md", "docs/tables.md"}
"""Derived from the texts of code, whose sentences have no line ends."""


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is neither in a block of code nor in a table."""
    is_fenced, was_blank, is_indented = False, True, False
    in_list = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
            continue
        if is_fenced:
            continue
        is_blank = not line.strip()
        in_list = (in_list and (is_blank or line.startswith(" "))) or bool(re.match(r" *([-*]|\d+\.) ", line))
        is_indented = not in_list and line.startswith("    ") and (was_blank or is_indented)
        was_blank = is_blank
        if not is_indented and not line.startswith("|"):
            yield number, line


def long_lines(text: str) -> list[int]:
    return [number for number, line in prose(text) if len(line) > LONGEST]


def links(text: str) -> list[str]:
    """Targets of the links and pictures of a page, but for those to other sites."""
    # Code in backticks may have line ends, and brackets that are no link.
    plain = re.sub(r"`[^`]*`", "", "\n".join(line for _, line in prose(text)))
    tables = re.sub(r"`[^`]*`", "", "\n".join(line for line in text.splitlines() if line.startswith("|")))
    return re.findall(r"\]\((?!\w+:)([^)\s]+)\)", f"{plain}\n{tables}")


def anchors(text: str) -> set[str]:
    """What a link to a heading of this page may end with, as the usual viewers of Markdown make it."""
    seen: Counter[str] = Counter()
    found = set()
    for _, line in prose(text):
        heading = re.match(r"#+ (.*)", line)
        if heading is None:
            continue
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def _has_heading(target: Path, anchor: str) -> bool:
    return target.suffix == ".md" and anchor in anchors(target.read_text(encoding="utf-8"))


def broken_links(page: Path) -> list[str]:
    """The links of a page that lead to no file, or to no heading of it."""
    broken = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and not _has_heading(target, anchor)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED])
def test_no_line_of_a_page_is_too_long_for_an_editor(page: str) -> None:
    assert long_lines((ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    assert broken_links(ROOT / page) == []


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    there = {page.name for page in (ROOT / "docs" / "decisions").glob("0*.md")}
    assert set(links(index)) - {"../design.md"} == there
    assert there


def test_long_lines_are_found_in_prose_and_lists_and_nowhere_else() -> None:
    long = "word " * 30
    text = f"{long}\n\n| {long}|\n\n```\n{long}\n```\n\n    {long}\n\n- {long}\n    {long}\n\n{long}\n"
    assert long_lines(text) == [1, 11, 12, 14]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One thing\n\n## `init --from`\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    page = tmp_path / "page.md"
    sound = "[a](other.md#one-thing) [b](other.md#init---from) [c](#here) [d](other.md#twice-1) `[e](gone.md)`"
    page.write_text(f"# Here\n\n{sound}\n| [f](gone.md) |\n[g](other.md#two) [h](#there)\n", encoding="utf-8")
    assert sorted(broken_links(page)) == ["#there", "gone.md", "other.md#two"]
