"""Convert the stored losses of `health` and `promotions` to the fleet's current loss, in Spark SQL.

Losses of single rows are converted. A sum or a mean is computed again from the converted losses if all of them are
stored; otherwise it becomes null, as if no loss were known.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spinney.core.champions.held_out_loss_codec import COLUMN, LOSS_NAME
from spinney.core.migration import LossHistory, converted_sql


def health_in_current_loss(health: DataFrame, losses: LossHistory) -> DataFrame:
    """Return rows of `health` with `loss` and `losses` converted to the current loss.

    Call it only if the loss has changed.
    """
    of_sum = _sum_of("losses", losses)
    return _replaced(
        health,
        losses,
        {
            "loss": f"CASE WHEN labelled = 0 THEN 0D WHEN labelled = 1 THEN {_converted('loss', losses)} "
            f"WHEN size(losses) = labelled THEN {of_sum} END",
            "losses": _list_of("losses", losses),
        },
    )


def promotions_in_current_loss(promotions: DataFrame, losses: LossHistory) -> DataFrame:
    """Return rows of `promotions` with challenger_loss and held-out losses converted to the current loss.

    Call it only if the loss has changed. challenger_loss becomes the mean of the stored losses, which the judge uses
    anyway.
    """
    mean = f"{_sum_of(COLUMN, losses)} / size({COLUMN})"
    return _replaced(
        promotions,
        losses,
        {
            "challenger_loss": f"CASE WHEN challenger_loss IS NOT NULL AND size({COLUMN}) > 0 THEN {mean} END",
            COLUMN: _list_of(COLUMN, losses),
        },
    )


def _replaced(rows: DataFrame, losses: LossHistory, otherwise: Mapping[str, str]) -> DataFrame:
    """Return the rows with these columns replaced where they are by another loss. otherwise: column -> SQL."""
    if LOSS_NAME not in rows.columns:  # no writer of this version has opened the table yet
        rows = rows.withColumn(LOSS_NAME, F.lit(None).cast("string"))
    is_present = f"coalesce({LOSS_NAME}, '{losses.first}') = '{losses.now}'"
    kinds = dict(rows.dtypes)
    return rows.withColumns(
        {
            name: F.expr(f"CASE WHEN {is_present} THEN {name} ELSE {sql} END").cast(kinds[name])
            for name, sql in otherwise.items()
        }
    )


def _converted(expression: str, losses: LossHistory) -> str:
    return converted_sql(expression, losses.other, losses.now)


def _list_of(column: str, losses: LossHistory) -> str:
    return f"transform({column}, l -> CAST({_converted('l', losses)} AS float))"


def _sum_of(column: str, losses: LossHistory) -> str:
    return f"aggregate({column}, 0D, (total, l) -> total + {_converted('l', losses)})"
