"""Resolve a name in the configuration to an object: a built-in one, or a user's ``"module:name"``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from spinney.core.errors import ConfigError, Finding
from spinney.core.similar_names import did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class NameOrigin:
    """Origin of a name, for error messages. key: its configuration key. kind: what it should name."""

    key: str = "recipe.estimator"
    kind: str = "estimator"
    source: str = "fleet.toml"


def resolve(name: str, builtin: Mapping[str, T], origin: NameOrigin | None = None) -> T:
    """Return the object that `name` refers to. Imports a user's module.

    Raises ConfigError if the name is unknown, or the module is missing, fails to import or lacks the attribute.
    """
    origin = origin or NameOrigin()
    if name in builtin:
        return builtin[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        expected = f'a built-in {origin.kind}, or one of your own as "module:name"'
        raise _config_error(origin, expected, f'"{name}"', _suggestion(name, builtin))
    if not module_name or not attribute.isidentifier():
        raise _config_error(
            origin, '"module:name"', f'"{name}"', "Name a module and something in it, with one colon between."
        )
    member = _import_attribute(module_name, attribute, origin)
    if not callable(member):
        expected = f"`{attribute}` of {module_name} to be callable"
        raise _config_error(
            origin, expected, f"a {type(member).__name__}", f"Make it a function that returns the {origin.kind}."
        )
    return cast(T, member)


def _import_attribute(module_name: str, attribute: str, origin: NameOrigin) -> object:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            remedy = "Install it where this runs, or put its folder on PYTHONPATH; Spark's workers need it as well."
            raise _config_error(origin, f"a module `{module_name}`", "none of that name", remedy) from error
        raise _import_error(origin, module_name, error) from error
    except Exception as error:  # a user's module may raise anything while it is imported
        raise _import_error(origin, module_name, error) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        remedy = did_you_mean(attribute, [name for name in vars(module) if not name.startswith("_")])
        raise _config_error(
            origin, f"`{attribute}` in module `{module_name}`", "nothing of that name", remedy
        ) from error


def _suggestion(name: str, builtin: Mapping[str, object]) -> str:
    known = ", ".join(sorted(builtin))
    meant = did_you_mean(name, builtin)
    return f"{meant} Known: {known}." if meant.startswith("Did") else f"Known: {known}."


def _import_error(origin: NameOrigin, module_name: str, error: Exception) -> ConfigError:
    got = f"{type(error).__name__}: {error}"[:500]
    return _config_error(origin, f"module `{module_name}` to import", got, "Mend the module.")


def _config_error(origin: NameOrigin, expected: str, got: str, remedy: str) -> ConfigError:
    return ConfigError([Finding(origin.source, None, origin.key, expected, got, remedy)])
