"""The optional libraries of the deploy targets: imported when needed, kept quiet and at home. No models here."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from quantlab.errors import MissingLibraryError

INSTALL = "Run: pip install 'quantlab[deploy]'"


def require(name: str) -> ModuleType:
    """Import an optional library.

    Raises:
        MissingLibraryError: It is not installed, or does not load here.
    """
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(
            f"{name} cannot be imported: {error}", place="deploy targets", remedy=f"{INSTALL}."
        ) from error
    if name == "onnxruntime":
        library.disable_telemetry_events()  # some builds for Windows would send them
        library.set_default_logger_severity(3)
    return library


def version(name: str) -> str:
    """The version of an installed library."""
    return str(require(name).__version__)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch's exporter says of libraries it does not need, and of its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
