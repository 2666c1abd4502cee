"""A notebook's code, run cell by cell as Jupyter would: the last expression of a cell and its figures are shown.

Stores what comes out: ``python tests/support/notebook.py examples/flights/fleet.ipynb`` from the folder to run it in.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def digest(notebook: dict[str, Any]) -> str:
    """Of its code: what is stored came out of this code, or of another."""
    return hashlib.sha256(json.dumps([cell["source"] for cell in code(notebook)]).encode()).hexdigest()


def ran(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a cell in these names; its outputs, as a notebook stores them. Raises what the cell raises."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    reported = io.StringIO()
    with contextlib.redirect_stdout(reported):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    outputs: list[dict[str, Any]] = []
    if reported.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(reported.getvalue())})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data = {"text/html": _lines(value._repr_html_()), **data}
        outputs.append({"data": data, "metadata": {}, "output_type": "execute_result"})
    return outputs + _figures()


def _figures() -> list[dict[str, Any]]:
    from matplotlib import pyplot as plt

    shown = []
    for number in plt.get_fignums():
        drawn = io.BytesIO()
        plt.figure(number).savefig(drawn, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
        data = {"image/png": base64.b64encode(drawn.getvalue()).decode(), "text/plain": ["<Figure>"]}
        shown.append({"data": data, "metadata": {}, "output_type": "display_data"})
    plt.close("all")
    return shown


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(file: Path) -> None:
    """Run it here and store the outputs."""
    notebook, names = read(file), {}
    for at, cell in enumerate(code(notebook), start=1):
        cell["outputs"] = ran("".join(cell["source"]), names)
        cell["execution_count"] = at
        for each in cell["outputs"]:
            if each["output_type"] == "execute_result":
                each["execution_count"] = at
    notebook["metadata"]["outputs_of"] = digest(notebook)
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
