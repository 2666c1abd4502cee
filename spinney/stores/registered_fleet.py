"""The registered fleet as MLflow runs it: a model from code. A copy of this file stands in each version.

Not imported by the package; what it needs of it is installed where a version is loaded.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel, PythonModelContext

from spinney.core.errors import ContractError
from spinney.stores.manifest import FOLDER, Manifest


class RegisteredFleet(PythonModel):  # type: ignore[misc]
    """Answers a frame of mixed groups by a manifest."""

    def load_context(self, context: PythonModelContext) -> None:
        self._manifest = Manifest(Path(context.artifacts[FOLDER]))
        self._one_at_a_time = Lock()  # a server asks from several threads

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        del context, params
        with self._one_at_a_time:
            try:
                return self._manifest.predict(model_input)
            except ContractError as error:  # a server shows the text of MLflow's own errors only
                raise MlflowException(str(error), error_code=BAD_REQUEST) from error


set_model(RegisteredFleet())
