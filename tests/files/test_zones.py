"""No time depends on the zone of the process: PySpark's own datetimes do."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("spinney", "streaming", "batch", "schemas", "examples", "benchmarks")


def files_with(*patterns: str) -> set[str]:
    """Of the modules that know Spark."""
    return {
        str(file.relative_to(ROOT))
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.py")
        if all(re.search(pattern, file.read_text(encoding="utf-8")) for pattern in (r"\bpyspark\b", *patterns))
    }


def test_no_time_is_called_utc_where_it_may_come_out_of_spark() -> None:
    assert files_with(r"replace\(\s*tzinfo=(?!None)") == set()


def test_rows_are_collected_in_few_places_and_without_times() -> None:
    """A time that is collected is `unix_micros`, read by `spinney.core.timestamps`."""
    assert files_with(r"(?<!gc)\.collect\(\)") == {
        "benchmarks/registry.py",
        "streaming/round_planning.py",
        "streaming/requested_groups.py",
        "streaming/retrain.py",
    }


def test_no_other_way_brings_rows_of_spark_here() -> None:
    assert files_with(r"\.(toPandas|toLocalIterator)\(|\.(first|head)\(\)") == set()
