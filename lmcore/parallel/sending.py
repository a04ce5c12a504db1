"""Pickling a call for other processes, wherever its function was defined."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from types import ModuleType

import cloudpickle


def pickled_call(function: object, args: tuple) -> bytes:
    """The bytes of a function and its arguments.

    Args:
        function: defined anywhere. What the workers could not import, as a notebook's cell, is sent by value: its code.
        args: anything that can be pickled.
    Raises:
        TypeError: something cannot be pickled.

    >>> function, args = cloudpickle.loads(pickled_call(lambda x: x + 1, (2,)))
    >>> function(*args)
    3
    """
    owner = getattr(function, "func", function)  # of a functools.partial
    module = sys.modules.get(getattr(owner, "__module__", None) or type(owner).__module__)
    by_value = module is not None and module.__name__ != "__main__" and not importable(module)
    if by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps((function, args))
    except Exception as error:
        name = getattr(function, "__name__", function)
        raise TypeError(
            f"{name} or its arguments cannot be sent to the workers: {error}. Pass what can be pickled, and make the "
            "rest (open files, locks, generators) inside the function"
        ) from error
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)


def importable(module: ModuleType) -> bool:
    """Whether another Python with the same search path would find this very module under its name.

    Pytest loads tests by their path, under names that no import finds; a notebook's cells are in no file at all.

    >>> import json, types
    >>> importable(json), importable(types.ModuleType("json"))
    (True, False)
    """
    if getattr(module, "__file__", None) is None:
        return module.__name__ in sys.builtin_module_names
    path, name = None, ""
    for part in module.__name__.split("."):
        name = f"{name}.{part}" if name else part
        try:
            spec = PathFinder.find_spec(name, path)
        except (ImportError, AttributeError):
            return False
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return spec.origin is not None and os.path.abspath(spec.origin) == os.path.abspath(module.__file__)
