from __future__ import annotations

import ast
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from earlier_root import EarlierRoot

from schemas import tables
from schemas.reference import reference as tables_reference
from spinney.cli import main
from spinney.core.config.reference_page import reference

DOCS = Path(__file__).parents[2] / "docs"


def page_rows(page: str) -> dict[str, set[str]]:
    """The names in the first column of each section's table."""
    sections = re.split(r"^## ", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        section.partition("\n")[0].strip("`[]"): set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
        for section in sections
    }


def keys_of(values: Mapping[str, Any], rows: set[str]) -> Iterator[str]:
    """The keys of a section. A table that has no row of its own has one for each of its keys."""
    for key, value in values.items():
        if isinstance(value, dict) and key not in rows:
            yield from (f"{key}.{inner}" for inner in value)
        else:
            yield key


def columns_of(log: Path) -> set[str]:
    """The columns that the first commit of a Delta table declares."""
    actions = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    (metadata,) = (action["metaData"] for action in actions if "metaData" in action)
    return {field["name"] for field in json.loads(metadata["schemaString"])["fields"]}


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_every_verb_has_a_section_and_an_example_in_the_docs(verb: str) -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {verb}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert f"    spinney {verb}" in section[1]


def test_the_docs_have_no_verb_that_does_not_exist() -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## (\S+)$", text, re.MULTILINE)) == sorted(main.commands)


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_every_option_in_a_verbs_examples_exists(verb: str) -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    for line in re.findall(rf"^    spinney {verb}\b(.*)$", text, re.MULTILINE):
        command = main.commands[verb]
        if isinstance(command, click.Group):
            command = command.commands[line.split()[0]]
        assert set(re.findall(r"--[a-z-]+", line)) <= {option for each in command.params for option in each.opts}


def test_the_example_of_a_registered_fleet_can_be_typed_and_asks_for_the_columns_of_the_flights() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8").split("\n## register\n")[1].split("\n## ")[0]
    lines = page[page.index("    import mlflow") : page.index("The process that loads a version")]
    names = [node for node in ast.walk(ast.parse(textwrap.dedent(lines))) if isinstance(node, ast.Name | ast.alias)]
    bound = {node.name for node in names if isinstance(node, ast.alias)}
    bound |= {node.id for node in names if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert {node.id for node in names if isinstance(node, ast.Name)} <= bound
    fleet = tomllib.loads((DOCS.parent / "examples" / "flights" / "fleet.toml").read_text(encoding="utf-8"))["fleet"]
    assert "…" not in lines
    assert all(f'"{name}"' in lines for name in (*fleet["group"], *fleet["features"]))


def test_the_page_of_the_configuration_is_what_the_models_say() -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("example", ["flights/fleet.toml", "machines/fleet.toml", "machines/forest.toml"])
def test_every_key_of_an_example_has_a_row_on_the_page_of_the_configuration(example: str) -> None:
    rows = page_rows("configuration.md")
    given = tomllib.loads((DOCS.parent / "examples" / example).read_text(encoding="utf-8"))
    assert given.keys() >= {"fleet", "recipe", "kafka", "storage"}
    for section, values in given.items():
        assert set(keys_of(values, rows[section])) <= rows[section], section


def test_the_page_of_the_tables_is_what_the_contracts_say() -> None:
    assert (DOCS / "tables.md").read_text(encoding="utf-8") == tables_reference()


def test_every_column_that_a_fleet_has_stored_has_a_row_on_the_page_of_the_tables(tmp_path: Path) -> None:
    rows = page_rows("tables.md")
    below = EarlierRoot.unpack(tmp_path).folder / "root" / "tables"
    stored = {log.parents[1]: columns_of(log) for log in below.rglob("_delta_log/00000000000000000000.json")}
    assert len(stored) == 17
    of_the_fleet = {"events": {"region", "shop", "x", "promo"}, "outcomes": {"label"}}
    for folder, columns in stored.items():
        table = folder.relative_to(below).parts[0]
        assert columns - rows[table] <= of_the_fleet.get(table, set()), folder


@pytest.mark.parametrize("table", [each.name for each in tables.ALL])
def test_every_table_is_in_the_design(table: str) -> None:
    assert re.search(rf"^\| {table}\b", (DOCS / "design.md").read_text(encoding="utf-8"), re.MULTILINE)
