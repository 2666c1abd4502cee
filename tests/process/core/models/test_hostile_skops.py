"""A payload that names a module of its own, read in a process that could import it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from spinney.core.models import codec

LOADERS = ("ObjectNode", "TypeNode", "FunctionNode", "ReduceNode", "OperatorFuncNode", "None")


def other_payload(body: bytes) -> bytes:
    header = json.dumps({"features": [["x0", "double"]]}).encode()
    return b"\x01" + len(header).to_bytes(4, "little") + header + body


def hostile_skops(module: str, class_name: str, loader: str = "ObjectNode") -> bytes:
    node = {"__class__": class_name, "__module__": module, "__loader__": loader, "content": None, "__id__": 1}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("schema.json", json.dumps({**node, "protocol": 2, "_skops_version": "0.13"}))
    return zlib.compress(out.getvalue())


@pytest.fixture(scope="module")
def opened_by_a_process(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder in which a hostile module leaves a file when it runs; loader -> what a process said of its payload."""
    folder = tmp_path_factory.mktemp("hostile")
    for loader in LOADERS:
        module = f"evil_{loader.lower()}"
        (folder / f"{module}.py").write_text(f"open({str(folder / loader)!r}, 'w').close()\nclass Evil: pass\n")
        (folder / f"{loader}.payload").write_bytes(other_payload(hostile_skops(module, "Evil", loader)))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from spinney.core.models import codec\nfrom spinney.core.errors import Corrupt\n"
        f"for loader in {LOADERS!r}:\n"
        "    try: codec.load('skops', open(f'{sys.argv[1]}/{loader}.payload', 'rb').read())\n"
        "    except Corrupt: print(loader, 'imported' if f'evil_{loader.lower()}' in sys.modules else 'refused')\n"
        "import evil_none\n"
    )
    root = Path(codec.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, dict(line.split() for line in done.stdout.splitlines())


@pytest.mark.parametrize("loader", LOADERS)
def test_hostile_skops_is_refused_before_its_module_is_imported(
    opened_by_a_process: tuple[Path, dict[str, str]], loader: str
) -> None:
    folder, reported = opened_by_a_process
    assert reported[loader] == "refused"
    was_run = loader == "None"  # the last line of the script imports it: the modules are there and leave their mark
    assert (folder / loader).exists() == was_run
