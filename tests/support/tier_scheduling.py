"""Distributes the files of tests over the processes of pytest-xdist so that two of them start a Spark session."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

WITHOUT_SPARK = ("tests/process/", "tests/files/", "tests/pure/")

SESSIONS = frozenset({"gw0", "gw1"})
"""Names of the processes that take the files in their order, and so start a session."""


class TierScheduling(LoadFileScheduling):
    """`--dist loadfile`, but the third process and later ones take files without Spark as long as there are any.

    After these they take the last files.

    A session that has not run yet takes half a minute of CPU time for what the others have loaded and compiled already.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        if node.gateway.id not in SESSIONS:
            last = next(reversed(self.workqueue))
            scope = next((each for each in self.workqueue if each.startswith(WITHOUT_SPARK)), last)
            self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)
