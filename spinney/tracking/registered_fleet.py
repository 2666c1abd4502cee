"""The registered fleet as an MLflow model from code. Each version contains a copy of this file.

The package does not import this file. A process that loads a version must have the package installed.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from mlflow.pyfunc import PythonModel, PythonModelContext

from spinney.core.errors import ContractError, SpinneyError
from spinney.serving.manifest import FOLDER, Manifest

SERVED = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"
"""The environment variable that MLflow's server sets for the model that it has loaded."""


class RegisteredFleet(PythonModel):  # type: ignore[misc]
    """Predicts rows of any groups from a manifest."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the manifest among the artifacts."""
        self._manifest = Manifest(Path(context.artifacts[FOLDER]))
        self._one_at_a_time = Lock()  # a server calls it from several threads

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict each row with its group's model. Raises MlflowException for rows that do not match the signature."""
        del context, params
        with self._one_at_a_time:
            # A server shows the message of MLflow's own errors only; of others it shows the stack.
            try:
                answers = self._manifest.predict(_of_lists(model_input))
            except ContractError as error:
                raise MlflowException(str(error), error_code=BAD_REQUEST) from error
            except SpinneyError as error:
                raise MlflowException(str(error), error_code=INTERNAL_ERROR) from error
        return _as_json_has_them(answers) if os.environ.get(SERVED) == "true" else answers


def _of_lists(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `inputs`, a form of MLflow's requests.

    If its lists hold only texts, MLflow passes each list as one cell of a single row; the rows are restored.
    """
    if len(frame) != 1 or not all(isinstance(cell, list) for cell in frame.iloc[0]):
        return frame
    lists = frame.iloc[0].to_dict()
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) != 1:
        raise ContractError(
            f"inputs: expected the same number of values in each column; got {lengths}. Write null for a missing value"
        )
    return pd.DataFrame(lists)


def _as_json_has_them(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the answers with null in place of NaN, which JSON lacks.

    NaN means no prediction, or an unbounded interval.
    """
    numbers = answers[[name for name in ("prediction", "lower", "upper") if name in answers]]
    return answers.assign(**numbers.astype(object).where(numbers.notna(), None))


set_model(RegisteredFleet())
