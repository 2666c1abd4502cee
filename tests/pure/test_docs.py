from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from pathlib import Path

import click
import pytest

from schemas import tables
from schemas.reference import reference as tables_reference
from spinney.cli import main
from spinney.core.config.reference import reference
from spinney.core.config.sections import Config

DOCS = Path(__file__).parents[2] / "docs"


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
    lines = page[page.index("    import mlflow") : page.index("Where it is loaded")]
    names = [node for node in ast.walk(ast.parse(textwrap.dedent(lines))) if isinstance(node, ast.Name | ast.alias)]
    bound = {node.name for node in names if isinstance(node, ast.alias)}
    bound |= {node.id for node in names if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert {node.id for node in names if isinstance(node, ast.Name)} <= bound
    fleet = tomllib.loads((DOCS.parent / "examples" / "flights" / "fleet.toml").read_text(encoding="utf-8"))["fleet"]
    assert "…" not in lines
    assert all(f'"{name}"' in lines for name in (*fleet["group"], *fleet["features"]))


def test_the_page_of_the_configuration_is_what_the_models_say() -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("section", sorted(Config.model_fields))
def test_every_section_of_the_configuration_is_on_its_page(section: str) -> None:
    assert f"## `[{section}]`" in reference()


def test_the_page_of_the_tables_is_what_the_contracts_say() -> None:
    assert (DOCS / "tables.md").read_text(encoding="utf-8") == tables_reference()


@pytest.mark.parametrize("table", [each.name for each in tables.ALL])
def test_every_table_is_on_the_page_and_in_the_design(table: str) -> None:
    assert f"## `{table}`" in tables_reference()
    assert re.search(rf"^\| {table}\b", (DOCS / "design.md").read_text(encoding="utf-8"), re.MULTILINE)
