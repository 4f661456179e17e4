"""What a user may type after `import quantlab as ql`, and what importing it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import quantlab as ql

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.mark.parametrize("name", ql.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(ql, name)
    assert value is getattr(ql, name), "a second look gives the same object"
    if name != "__version__":
        assert value.__doc__


@pytest.mark.parametrize(
    "name", ["Lab", "Recipe", "build_model", "load_model", "load_scene", "quantize", "rooms", "widgets"]
)
def test_the_promised_names_are_public(name: str) -> None:
    assert name in ql.__all__
    assert name in dir(ql)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ql.nonsense  # noqa: B018


def test_every_error_a_user_can_cause_is_a_quantlab_error() -> None:
    kinds = [kind for kind in vars(ql.errors).values() if isinstance(kind, type)]
    assert len(kinds) > 5
    assert all(issubclass(kind, ql.QuantLabError) for kind in kinds)


def test_the_version_is_that_of_the_project() -> None:
    assert ql.__version__ == tomllib.loads(PROJECT.read_text())["project"]["version"]


def test_importing_quantlab_loads_neither_torch_nor_numpy_nor_a_toolkit() -> None:
    heavy = {"torch", "numpy", "gradio", "plotly", "open3d", "ipywidgets", "rich", "typer"}
    script = f"import sys, quantlab; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("package", ["figures", "viewer"])
def test_what_draws_loads_no_torch(package: str) -> None:
    folder = Path(importlib.import_module(f"quantlab.{package}").__file__).parent
    names = [f"quantlab.{package}.{file.stem}".removesuffix(".__init__") for file in folder.glob("*.py")]
    script = f"import sys, importlib; [importlib.import_module(name) for name in {names!r}]"
    script += "; assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
