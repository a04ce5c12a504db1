"""What to say when a package is missing that only some parts of lmcore need."""

import importlib


def need(module: str, *, group: str, by: str) -> None:
    """Import an optional dependency, or say how to get it.

    Args:
        module: name of the module.
        group: the group of lmcore's dependencies that brings it.
        by: which part of lmcore needs it.
    Raises:
        ModuleNotFoundError: it is not installed; the message holds the command that installs it.

    >>> need("json", group="none", by="this example")
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:  # it is there, and something that it needs is not
            raise
        raise ModuleNotFoundError(
            f"{by} needs {module}, which is not installed: python -m pip install 'lmcore[{group}]'", name=module
        ) from None
