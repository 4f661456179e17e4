"""The public names of QuantLab, each imported when it is first used. Importing it loads no torch and no toolkit.

>>> import quantlab as ql
>>> lab = ql.Lab(ql.load_model("mini"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from quantlab import errors, figures, geometry, widgets
    from quantlab.engine.evaluate_model import evaluate
    from quantlab.engine.quantize import quantize
    from quantlab.engine.recipe import Recipe
    from quantlab.errors import QuantLabError
    from quantlab.lab import Lab, load_session
    from quantlab.models.zoo import build_model
    from quantlab.packed.load import load_model
    from quantlab.report.page import write as report
    from quantlab.scenes.load import load_scene, load_scenes
    from quantlab.scenes.synthetic import rooms

_MODULES = ("errors", "figures", "geometry", "report", "widgets")
_NAMES = {
    "Lab": "quantlab.lab",
    "QuantLabError": "quantlab.errors",
    "Recipe": "quantlab.engine.recipe",
    "build_model": "quantlab.models.zoo",
    "evaluate": "quantlab.engine.evaluate_model",
    "load_model": "quantlab.packed.load",
    "load_scene": "quantlab.scenes.load",
    "load_scenes": "quantlab.scenes.load",
    "load_session": "quantlab.lab",
    "quantize": "quantlab.engine.quantize",
    "rooms": "quantlab.scenes.synthetic",
}

__all__ = [
    "Lab",
    "QuantLabError",
    "Recipe",
    "__version__",
    "build_model",
    "errors",
    "evaluate",
    "figures",
    "geometry",
    "load_model",
    "load_scene",
    "load_scenes",
    "load_session",
    "quantize",
    "report",
    "rooms",
    "widgets",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _MODULES:
        return import_module(f"quantlab.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module 'quantlab' has no attribute {name!r}")
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
