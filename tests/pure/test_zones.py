"""No time depends on the zone of the process: PySpark's own datetimes do."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("spinney", "streaming", "batch", "schemas", "examples", "benchmarks")


def files_with(pattern: str) -> set[str]:
    return {
        str(file.relative_to(ROOT))
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.py")
        if re.search(pattern, file.read_text(encoding="utf-8"))
    }


def test_a_naive_time_is_called_utc_only_where_a_users_file_means_it() -> None:
    """What `collect` returns is in the process's zone; of what a file brings without a zone, UTC is the convention."""
    assert files_with(r"replace\(\s*tzinfo=(?!None)|tz_localize\(") == {
        "spinney/core/encoding.py",
        "spinney/core/fitting.py",
        "spinney/core/history.py",
        "spinney/local/records.py",
    }


def test_rows_are_collected_in_few_places_and_without_times() -> None:
    """A time that is collected is `unix_micros`, read by `spinney.core.moments`."""
    assert files_with(r"(?<!gc)\.collect\(\)") == {"batch/weekly.py", "spinney/stores/delta.py", "streaming/retrain.py"}


def test_no_other_way_brings_rows_of_spark_here() -> None:
    assert files_with(r"\.(toPandas|toLocalIterator)\(|\.(first|head)\(\)") == set()
