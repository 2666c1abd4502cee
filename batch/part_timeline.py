"""Predict how long the parts of a batch take, where the gate of each part runs beside the fit of the next part.

The driver decides about a part in a thread while Spark's tasks fit the next one (`retraining.background_step`). The
next fit is stored only after the gate before it, so each part takes at least as long as the gate that runs beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PartSeconds:
    """The seconds of a part if nothing runs beside it.

    fit_s: read, fit, write and commit its models. gate_s: its gate.
    """

    fit_s: float
    gate_s: float


def fit_beside_gate(fit_s: float, gate_s: float, contention: float) -> float:
    """Return the wall-clock seconds of a fit and of the gate of the part before, which runs beside it.

    contention: the share of the gate's seconds by which the fit takes longer. 0: the gate has a core of its own. 1 /
    cores: it takes a core from a fit that uses all cores. 1: one runs after the other.
    """
    return max(gate_s, fit_s + contention * gate_s)


def total_seconds(parts: Iterable[PartSeconds], contention: float) -> float:
    """Return the seconds from the first fit to the end of the last gate. contention: as for `fit_beside_gate`."""
    total = gate_s = 0.0
    for part in parts:
        total += fit_beside_gate(part.fit_s, gate_s, contention)
        gate_s = part.gate_s
    return total + gate_s
