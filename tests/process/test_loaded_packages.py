"""What each command loads, seen from a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
from deltalake import DeltaTable
from handwritten_history import fleet_toml

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
KEY = '["AA","LGA","DFW"]'


def test_help_loads_nothing_heavy() -> None:
    heavy = ["pydantic", "pandas", "numpy", "pyspark", "deltalake", "mlflow", "confluent_kafka", "rich", "sklearn"]
    program = (
        "import sys\nfrom spinney.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"sys.exit(', '.join(name for name in {heavy} if name in sys.modules) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_offers_the_fleet_and_is_cheap_to_import() -> None:
    heavy = "print('pandas' in sys.modules)"
    reported = f"import sys, spinney; {heavy}; print(spinney.Fleet.__module__); {heavy}"
    done = subprocess.run([sys.executable, "-c", reported], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "spinney.fleet", "False"]


def test_neither_spark_nor_kafka_nor_mlflow_is_loaded(tmp_path: Path) -> None:
    words = ["try", "--config", str(FLIGHTS / "fleet.toml"), "--rows", str(FLIGHTS / "departures.parquet"), "--group"]
    script = (
        "import sys; from spinney.cli import main\n"
        f"main({[*words, KEY, '--out', str(tmp_path)]!r}, standalone_mode=False)\n"
        "print([name for name in ('pyspark', 'confluent_kafka', 'mlflow', 'matplotlib.pyplot') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_neither_spark_nor_kafka_nor_mlflow_is_loaded_and_no_root_is_made(tmp_path: Path) -> None:
    flights, rows = pd.read_parquet(FLIGHTS / "departures.parquet"), tmp_path.parent / f"{tmp_path.name}.parquet"
    is_wanted = (flights["carrier"] == "AA") & (flights["scheduled_departure"] < pd.Timestamp("2013-02-05", tz="UTC"))
    flights[is_wanted].to_parquet(rows)
    config = tmp_path / "fleet.toml"
    config.write_text((FLIGHTS / "fleet.toml").read_text())
    words = ["backtest", "--config", str(config), "--rows", str(rows), "--step", "7d"]
    script = (
        f"import sys; from spinney.cli import main\nmain({words!r}, standalone_mode=False)\n"
        "print([name for name in ('pyspark', 'confluent_kafka', 'mlflow', 'matplotlib') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.toml"]


def test_the_command_imports_neither_spark_nor_mlflow(tmp_path: Path) -> None:
    source = str(tmp_path / "history.parquet")
    at = pd.date_range("2024-05-01", periods=100, freq="h", tz="UTC").astype("datetime64[us, UTC]")
    names = {"shop": [f"s{n % 7}" for n in range(100)], "sale": [f"e{n}" for n in range(100)]}
    pd.DataFrame({**names, "at": at, "dept": 1, "price": 2.0, "sold": 3.0}).to_parquet(source)
    (tmp_path / "fleet.toml").write_text(fleet_toml(tmp_path / "root", kafka='outcomes = "sold"'))
    script = (
        "import sys; from spinney.cli import main\n"
        f"main(['load', {source!r}, '--config', {str(tmp_path / 'fleet.toml')!r}], standalone_mode=False)\n"
        "heavy = {'pyspark', 'py4j', 'mlflow', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("table\trows\tduplicates\nevents\t")
    assert DeltaTable(str(tmp_path / "root" / "tables" / "events")).version() == 1
