"""The packages that pyproject.toml declares are those that the code imports. Registered models are pinned to them."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, BROWSER = PYPROJECT["project"], PYPROJECT["dependency-groups"]["browser"]
SOURCES = ("spinney", "streaming", "batch", "demo", "schemas")
DEVELOPMENT = ("tests", "benchmarks", "examples")

PACKAGE_OF = {"sklearn": "scikit-learn", "xdist": "pytest-xdist", "yaml": "pyyaml"}
"""Import name -> name of the package, where a dash for an underscore is not the only difference."""

USED_WITHOUT_IMPORT = {
    "delta-spark": "its version is that of the jars in spinney/local/jars.lock",
    "httptools": "uvicorn parses HTTP with it, as spinney/gateway/limits/connection_limits.py asks",
}
DEVELOPMENT_TOOLS = {
    "import-linter": "a command of `make check`",
    "mypy": "a command of `make check`",
    "pandas-stubs": "types for mypy",
    "ruff": "a command of `make check`",
    "types-requests": "types for mypy",
}
DEVELOPMENT_IMPORTS = {
    "orjson": "benchmarks/harness/consumer.py uses it if it is installed",
    "pyreadr": "benchmarks/harness/other_fleets.py says how to install it: only files of R need it",
    "ray": "benchmarks/harness/ray_models.py runs in a Python of its own, which --ray-python names",
    "river": "benchmarks/harness/online_regression.py says how to install it: only that benchmark needs it",
    "sqlalchemy": "MLflow's own: tests count the statements that it sends",
    "werkzeug": "MLflow's own: tests serve its application",
}
"""Imported by tests or benchmarks without being declared."""


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", text)[0].lower() for text in requirements}


@functools.cache
def imported(folders: tuple[str, ...]) -> set[str]:
    """Packages that files below these folders import, at the top or in functions, by the names of packages."""
    own = {path.stem for folder in (*SOURCES, *DEVELOPMENT) for path in (ROOT / folder).rglob("*.py")}
    own |= {*SOURCES, *DEVELOPMENT, "harness"}
    modules = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.partition(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - own
    return {PACKAGE_OF.get(name, name.replace("_", "-")) for name in foreign}


def locked(file: str = "requirements.lock") -> dict[str, str]:
    """Name -> version."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_every_declared_package_is_imported_and_every_imported_one_is_declared():
    needed = declared(PROJECT["dependencies"])
    assert imported(SOURCES) == needed - set(USED_WITHOUT_IMPORT)
    assert set(USED_WITHOUT_IMPORT) <= needed


def test_tests_and_benchmarks_import_what_is_declared_for_development_and_nothing_is_declared_in_vain():
    extra = declared(PROJECT["optional-dependencies"]["dev"]) | declared(BROWSER)
    needed = declared(PROJECT["dependencies"])
    assert imported(DEVELOPMENT) - needed - set(DEVELOPMENT_IMPORTS) == extra - set(DEVELOPMENT_TOOLS)
    assert set(DEVELOPMENT_IMPORTS) <= imported(DEVELOPMENT) - needed - extra


@pytest.mark.parametrize("part", ["dependencies", "dev"])
def test_every_declared_package_is_locked(part):
    names = PROJECT["dependencies"] if part == "dependencies" else PROJECT["optional-dependencies"]["dev"]
    assert declared(names) <= locked().keys()


def test_what_the_checks_of_the_page_need_is_locked_beside_the_rest_in_the_same_versions():
    found, others = locked("requirements-browser.lock"), locked()
    assert declared(BROWSER) <= found.keys()
    assert {(name, found[name]) for name in found.keys() & others.keys()} <= others.items()
    assert not declared(BROWSER) & others.keys()
