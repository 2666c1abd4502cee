"""Built-in estimators: one module each.

To add one, add a module here with ``NAME``, ``TASKS`` and ``kernel(task, params) -> Kernel``. Users name an estimator
of their own by ``"module:function"``: a function that returns an unfitted scikit-learn estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, cast

from spinney.core.errors import ContractError, SpinneyError
from spinney.core.name_resolution import resolve
from spinney.core.training.fit_kernels import Kernel, PerGroupKernel

Params = Mapping[str, Any]


@dataclass(frozen=True)
class BuiltIn:
    """A named estimator. tasks: regression, classification or both. kernel: raises ContractError for wrong params."""

    name: str
    tasks: tuple[str, ...]
    kernel: Callable[[str, Params], Kernel]


@lru_cache(maxsize=1)
def builtins() -> Mapping[str, BuiltIn]:
    """Name -> estimator, of every module in this folder."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {module.NAME: BuiltIn(module.NAME, module.TASKS, module.kernel) for module in modules}


def kernel_for(estimator: str, task: str, params: Params) -> Kernel:
    """Return the kernel of a recipe's estimator: a built-in name or ``"module:function"``.

    Raises ConfigError if the name cannot be resolved, and ContractError if the task or params do not suit the estimator
    or a user's function raises or returns no estimator.
    """
    estimator_or_function: object = resolve(estimator, cast(Mapping[str, object], builtins()))
    try:
        if not isinstance(estimator_or_function, BuiltIn):
            return PerGroupKernel(cast(Callable[..., Any], estimator_or_function)(**params), task)
        if task in estimator_or_function.tasks:
            return estimator_or_function.kernel(task, params)
    except SpinneyError:
        raise
    except Exception as error:
        raise ContractError(
            f"recipe.estimator {estimator} with {dict(params)}: expected an unfitted estimator; got "
            f"{type(error).__name__}: {error}. Correct recipe.params or the function"
        ) from error
    suitable = sorted(name for name, builtin in builtins().items() if task in builtin.tasks)
    raise ContractError(
        f"recipe.estimator {estimator}: expected one for {task}; got one for "
        f"{' and '.join(estimator_or_function.tasks)}. Choose one of {', '.join(suitable)}"
    )
