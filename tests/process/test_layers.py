"""What import-linter cannot see: what is really loaded, and who reaches into the JVM."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = (
    "pyspark", "py4j", "delta", "deltalake", "confluent_kafka", "mlflow", "requests", "urllib3", "fastapi", "flask",
    "uvicorn", "filelock", "platformdirs",
)  # fmt: skip
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def loaded_by(package: str) -> set[str]:
    command = [sys.executable, "-c", IMPORT_ALL, package]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())


@pytest.mark.parametrize("package", ["spinney.core", "schemas"])
def test_the_pure_packages_load_no_spark_kafka_mlflow_or_web(package: str) -> None:
    assert loaded_by(package).isdisjoint(FORBIDDEN)


def test_schemas_load_the_standard_library_only() -> None:
    allowed = {*sys.stdlib_module_names, "schemas", "__main__"}
    ours = {name for name in loaded_by("schemas") - allowed if not name.startswith(("_", "sitecustomize"))}
    assert ours <= loaded_before_any_import()


def loaded_before_any_import() -> set[str]:
    """What an environment loads by itself, by .pth files for one."""
    command = [sys.executable, "-c", "import sys; print(*{name.partition('.')[0] for name in sys.modules})"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())


def test_every_package_has_its_place_in_the_order_of_the_layers() -> None:
    """import-linter says nothing of a package that its contract does not name, except in `spinney.core`."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in linter["contracts"] if contract["id"] == "layers")
    placed = {name.strip() for layer in layers for name in layer.split("|")}
    below = {f"spinney.{file.parent.name}" for file in (ROOT / "spinney").glob("*/__init__.py")}
    roots = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert (below | roots) - {"spinney"} == placed - {"spinney.fleet"}
    assert roots == set(linter["root_packages"])


def test_only_the_session_module_reaches_into_the_jvm() -> None:
    reaching = re.compile(r"\b[sS]parkContext\b|\b(?:import|from) py4j\b|\._jvm\b|\._jdf\b|\._jsparkSession\b|\.rdd\b")
    found = {
        str(file.relative_to(ROOT))
        for folder in ("spinney", "streaming", "batch", "demo", "schemas")
        for file in (ROOT / folder).rglob("*.py")
        if reaching.search(file.read_text(encoding="utf-8"))
    }
    assert found == {"spinney/spark/session.py"}


@pytest.mark.parametrize(
    "package",
    [
        *("core/champions", "core/features", "core/intervals", "core/models", "core/planning", "core/config_proposal"),
        *("core/records", "core/reporting", "core/training", "kafka", "operations", "page_data", "sources", "tables"),
        "workers",
    ],
)
def test_a_package_below_the_edges_takes_parts_of_the_configuration_never_the_whole(package: str) -> None:
    files = list((ROOT / "spinney" / package).rglob("*.py"))
    assert files
    assert [file.name for file in files if "Config" in names_imported_by(file)] == []


def names_imported_by(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_a_file_that_imports_the_whole_configuration_is_noticed() -> None:
    assert "Config" in names_imported_by(ROOT / "spinney" / "fleet.py")


def test_no_registry_is_named() -> None:
    """Packages and jars come by the ordinary clients' own defaults, so that a mirror can stand in for them."""
    registry = re.compile(r"repo1\.|maven\.org/|pypi\.org/simple|files\.pythonhosted|--(extra-)?index-url")
    listing = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT)
    named = [
        name
        for name in listing.stdout.splitlines()
        if name.endswith((".py", ".toml", ".lock", ".yaml", ".sh", ".xml", "Makefile"))
        and (ROOT / name).is_file()
        and name != str(Path(__file__).relative_to(ROOT))
        and registry.search((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert named == []
