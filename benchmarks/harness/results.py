"""Results of a benchmark: a table, or one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

PACKAGES = (
    "spinney", "pyspark", "delta-spark", "deltalake", "numpy", "pandas", "pyarrow", "scikit-learn", "confluent-kafka",
    "mlflow", "joblib", "polars", "orjson",
)  # fmt: skip


@dataclass
class Measure:
    """One row of the table: a value for each run, beside a peer's of the same run.

    better: "less" or "more". peer_values: empty where there is no peer. target: in words; none where "".
    """

    what: str
    unit: str
    better: str = "less"
    peer: str = ""
    target: str = ""
    values: list[float] = field(default_factory=list)
    peer_values: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)

    def add(self, value: float, *, peer: float | None = None, peak_mb: float | None = None) -> None:
        """Add the values of one run. peer: of the peer in the same run."""
        self.values.append(value)
        if peer is not None:
            self.peer_values.append(peer)
        if peak_mb is not None:
            self.peak_mb.append(peak_mb)

    @property
    def ratios(self) -> list[float]:
        """Our value divided by the peer's, of each run."""
        return [ours / peer for ours, peer in zip(self.values, self.peer_values, strict=False) if peer]

    def as_json(self) -> dict[str, Any]:
        """Return the measure as plain values."""
        return {
            "what": self.what,
            "unit": self.unit,
            "better": self.better,
            "target": self.target or None,
            **_spread("value", self.values),
            "peer": self.peer or None,
            **_spread("peer_value", self.peer_values),
            **_spread("ratio", self.ratios),
            "peak_mb": round(max(self.peak_mb)) if self.peak_mb else None,
        }


def _spread(name: str, values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {name: None}
    return {
        name: _short(median(values)),
        f"{name}_least": _short(min(values)),
        f"{name}_most": _short(max(values)),
        f"{name}_runs": [_short(value) for value in values],
    }


def _short(value: float) -> float:
    """Return a value with four significant digits."""
    return float(f"{value:.4g}")


def show(asked: argparse.Namespace, measures: Sequence[Measure], notes: Sequence[str] = ()) -> None:
    """Print the measures as a table, or as JSON if `--json` was given."""
    kept = [measure for measure in measures if measure.values]
    sizes = {name: value for name, value in vars(asked).items() if name not in ("json", "bootstrap_servers")}
    if asked.json:
        whole = {
            "benchmark": Path(sys.argv[0]).stem,
            "sizes": sizes,
            "results": [measure.as_json() for measure in kept],
            "notes": list(notes),
            "versions": versions(),
            "machine": machine(),
        }
        print(json.dumps(whole, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in sizes.items()))
    spread = f"{'ours':>10} {'least–most':>17} {'peer':>10} {'ratio':>7} {'least–most':>13}"
    print(f"{'':<46} {spread} {'peak MB':>8}  target")
    for measure in kept:
        print(_line(measure.as_json()))
    for note in notes:
        print(note)
    print(f"machine: {machine()}; versions: {', '.join(f'{name} {value}' for name, value in versions().items())}")


def _line(found: dict[str, Any]) -> str:
    ours = f"{found['value']:>10,.4g} {_range(found, 'value', 17)}"
    peer = "–" if found["peer_value"] is None else f"{found['peer_value']:,.4g}"
    ratio = "" if found["ratio"] is None else f"{found['ratio']:.3g}"
    peak = "–" if found["peak_mb"] is None else f"{found['peak_mb']:,}"
    what = f"{found['what']}, {found['unit']}"
    against = f"  (peer: {found['peer']})" if found["peer"] else ""
    spread = f"{peer:>10} {ratio:>7} {_range(found, 'ratio', 13)}"
    return f"{what:<46} {ours} {spread} {peak:>8}  {found['target'] or ''}{against}"


def _range(found: dict[str, Any], name: str, width: int) -> str:
    text = "" if found[name] is None else f"{found[f'{name}_least']:,.3g}–{found[f'{name}_most']:,.3g}"
    return f"{text:>{width}}"


def versions() -> dict[str, str]:
    """Return the versions of Python, Java and the relevant packages that are installed."""
    found = {"python": platform.python_version(), "java": _java()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _java() -> str:
    from spinney.local import java

    executable = str(java.find(os.environ).executable)
    said = subprocess.run([executable, "-version"], capture_output=True, text=True, check=False).stderr
    return said.splitlines()[0] if said else "unknown"


def machine() -> str:
    """Return cores, memory and operating system as text."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return f"{cores} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, load average {load:.1f}"


def arguments(text: str, sizes: dict[str, Any], *, needs_broker: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark. sizes: option -> default. text: the help."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in sizes.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"[{default}]")
    parser.add_argument("--runs", type=int, default=3, help="repetitions; the table has their median and spread [3]")
    parser.add_argument(
        "--spark", action="append", default=[], metavar="KEY=VALUE", help="an entry of [spark]; may be repeated"
    )
    if needs_broker:
        where = "take this broker, and leave the topics on it [an embedded one]"
        parser.add_argument("--bootstrap-servers", default="", metavar="HOST:PORT", help=where)
    parser.add_argument("--json", action="store_true", help="one JSON object: all runs, peak memory, versions, machine")
    return parser


@contextmanager
def work_folder() -> Iterator[Path]:
    """Yield a temporary folder that is removed at the end, also after Ctrl-C and SIGTERM."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    folder = Path(tempfile.mkdtemp(prefix="spinney-benchmark-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
