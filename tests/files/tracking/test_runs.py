"""Of several runs that are one, which stays; and where artifacts go that no server takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from spinney.tracking.mlflow_client import DeliveryClient
from spinney.tracking.runs import THROUGH, runs_by_identity


class Deleting:
    def __init__(self) -> None:
        self.deleted: list[str] = []

    def ask(self, call: str, run_id: str) -> None:
        assert call == "delete_run"
        self.deleted.append(run_id)


def run(run_id: str, name: str, status: str = "RUNNING", through: int | None = None, stage: str = "active") -> Any:
    tags = {"name": name} | ({} if through is None else {THROUGH: str(through)})
    info = SimpleNamespace(run_id=run_id, status=status, lifecycle_stage=stage)
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags))


def test_the_run_that_has_ended_stays_then_that_which_is_furthest_then_any_but_always_the_same() -> None:
    found = [
        *(run("a1", "a"), run("a2", "a", "FINISHED"), run("a3", "a", "FAILED")),
        *(run("b1", "b", through=3), run("b2", "b", through=12), run("b3", "b")),
        *(run("c2", "c"), run("c1", "c")),
        *(run("d1", "d"), run("d0", "d", "FINISHED", 9, stage="deleted")),
        run("e1", "e", stage="deleted"),
    ]
    for order in (found, found[::-1]):
        server = Deleting()
        kept = runs_by_identity(server, order, lambda each: each.data.tags["name"])
        stay = {"a": "a2", "b": "b2", "c": "c1", "d": "d1", "e": "e1"}
        assert {name: each.info.run_id for name, each in kept.items()} == stay
        assert sorted(server.deleted) == ["a1", "a3", "b1", "b3", "c2"]


def test_artifacts_lie_beside_a_database_that_is_a_file_and_else_where_the_server_has_them(tmp_path) -> None:
    def artifacts(uri: str) -> str | None:
        server = object.__new__(DeliveryClient)
        server._uri = uri
        return server._artifacts("shops")

    assert artifacts(f"sqlite:///{tmp_path}/mlflow.db") == str(tmp_path / "mlflow-artifacts" / "shops")
    assert artifacts(f"sqlite:///{tmp_path}/mlflow?timeout=3") == str(tmp_path / "mlflow-artifacts" / "shops")
    assert artifacts("http://127.0.0.1:5000") is None
    assert artifacts("postgresql://db/mlflow") is None
