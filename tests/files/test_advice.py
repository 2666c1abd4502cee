"""Commands, options and configuration keys that messages name exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

from spinney.cli import main

ROOT = Path(__file__).parents[2]
FILES = sorted(file for folder in ("spinney", "streaming", "batch", "demo") for file in (ROOT / folder).rglob("*.py"))
NO_KEYS = {
    **dict.fromkeys(("fleet.toml", "staleness.md", "gate.md"), "a file"),
    **dict.fromkeys(("retention.ms", "retention.bytes"), "of Kafka's topics"),
    **dict.fromkeys(("kafka.bootstrap", "kafka.isolation", "kafka.max", "kafka.fetch"), "options of Spark's source"),
    "kafka.tools": "a package of Java",
    "spark": "its keys are Spark's own",
}
"""What looks like a key and is none -> what it is."""

CALL = re.compile(r"(?<![\w./-])spinney ([a-z]+(?:-[a-z]+)*)((?: (?:--[a-z-]+|[A-Zx'\"][^\s,;:]*|[a-z]+))*)")


def texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a module without docstrings. A value inside an f-string is an x."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def unknown_commands(text: str) -> list[str]:
    """The calls of `spinney` in a text whose verb or one of whose options does not exist."""
    unknown = []
    for verb, rest in CALL.findall(text):
        command = main.commands.get(verb)
        if isinstance(command, click.Group):
            command = command.commands.get(rest.strip().partition(" ")[0])
        known = set() if command is None else {option for each in command.params for option in each.opts}
        if command is None or not set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known:
            unknown.append(f"spinney {verb}{rest}")
    return unknown


def configuration_keys() -> dict[str, set[str]]:
    """Section -> its keys, as docs/configuration.md lists them."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    sections = re.split(r"^## `\[", page, flags=re.MULTILINE)[1:]
    return {
        section.partition("]")[0]: set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)) for section in sections
    }


def unknown_keys(text: str, keys: dict[str, set[str]]) -> list[str]:
    """The words like `gate.margin` in a text whose section exists and whose key does not."""
    unknown = []
    for section, key in re.findall(rf"(?<![\w./-])({'|'.join(keys)})\.([a-z_]+(?:\.[a-z_]+)?)\b(?!\()", text):
        first = key.partition(".")[0]
        if first == "x" or section in NO_KEYS or f"{section}.{first}" in NO_KEYS:
            continue
        if not any(row in (first, key) or row.startswith(f"{first}.") for row in keys[section]):
            unknown.append(f"{section}.{key}")
    return unknown


def test_every_command_that_a_message_names_exists_with_its_options() -> None:
    found = {
        str(file.relative_to(ROOT)): [
            call for text in texts(ast.parse(file.read_text(encoding="utf-8"))) for call in unknown_commands(text)
        ]
        for file in FILES
    }
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_every_configuration_key_that_a_message_names_exists() -> None:
    keys = configuration_keys()
    found = {
        str(file.relative_to(ROOT)): [
            key for text in texts(ast.parse(file.read_text(encoding="utf-8"))) for key in unknown_keys(text, keys)
        ]
        for file in FILES
    }
    assert {name: named for name, named in found.items() if named} == {}


def test_advice_that_does_not_exist_is_found() -> None:
    assert unknown_commands("Run spinney retrain --all, or spinney refit x") == ["spinney refit x"]
    assert unknown_commands("spinney retrain --group x --soon") == ["spinney retrain --group x --soon"]
    assert unknown_commands("spinney dead-letters list") == []
    assert unknown_commands("spinney dead-letters eat") == ["spinney dead-letters eat"]
    keys = configuration_keys()
    assert unknown_keys("set gate.margin or gate.width in fleet.toml; see error_rise.patience", keys) == ["gate.width"]
    assert unknown_keys("staleness.error_rise.patience and kafka.options.x", keys) == []
    tree = ast.parse('"""Doc: spinney gone."""\nraise E(f"{a}: run spinney gone {b}")')
    assert [call for text in texts(tree) for call in unknown_commands(text)] == ["spinney gone x"]
