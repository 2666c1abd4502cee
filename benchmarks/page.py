"""The fleet page at 50,000 groups: how long a request takes, and how long it takes to read all figures again.

Run: ``python benchmarks/page.py``; ``--serve 8765`` to look at the page; ``--groups 1000`` for a quick look.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np
import requests
from harness.page_fleet import key_of, make_fleet
from harness.page_server import served

from spinney.storage.config_file import read_config


def measure(url: str, paths: Mapping[str, str], is_over: Callable[[int], bool]) -> None:
    """Print the median and the 95th percentile of each request's milliseconds, and the size of an answer.

    paths: name -> path; `{n}` in a path is a number that is another one each time. is_over: told the number of rounds.
    """
    found: dict[str, list[float]] = {name: [] for name in paths}
    sizes: dict[str, float] = {}
    with requests.Session() as session:
        for n in itertools.takewhile(lambda n: not is_over(n), itertools.count()):
            for name, path in paths.items():
                began = time.perf_counter()
                answer = session.get(url + path.replace("{n}", f"{n * 31:06}"), timeout=30)
                found[name].append((time.perf_counter() - began) * 1000)
                answer.raise_for_status()
                sizes[name] = len(answer.content) / 1000
    for name, ms in found.items():
        p50, p95 = np.quantile(ms, [0.5, 0.95])
        print(f"{name:<18} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   {sizes[name]:8.1f} kB")


def main() -> None:
    """Run the benchmark, or serve the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="keep the fleet here, and use the one that is here")
    parser.add_argument("--serve", type=int, metavar="PORT")
    parser.add_argument("--times", type=int, default=40)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    file = folder / "fleet.toml"
    folder.mkdir(parents=True, exist_ok=True)
    config = read_config(file, {}) if file.exists() else make_fleet(folder, asked.groups)
    one_key, every_key = quote(key_of(min(123, asked.groups - 1))), quote('["s') + "{n}" + quote('"]')
    paths = {
        "page": "", "fleet": "fleet.json", "pipeline": "pipeline.json", "groups, all": "groups.json",
        "groups, search": "groups.json?q=s0 9&limit=50", "groups, stale": "groups.json?state=stale",
        "group, first time": f"group.json?key={every_key}", "group, again": f"group.json?key={one_key}",
    }  # fmt: skip
    with served(config, asked.serve or 0) as (url, live):
        if asked.serve:
            print(url)
            threading.Event().wait()
        began, cpu = time.perf_counter(), time.process_time()
        live.read_changes(again=True)
        print(f"reading all figures: {time.perf_counter() - began:.2f} s, CPU {time.process_time() - cpu:.2f} s")
        measure(url, paths, lambda n: n == asked.times)
        print("while all figures are read again:")
        reading = threading.Thread(target=live.read_changes, kwargs={"again": True})
        reading.start()
        measure(url, paths, lambda _: not reading.is_alive())


if __name__ == "__main__":
    main()
