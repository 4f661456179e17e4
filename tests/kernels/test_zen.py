"""The zentorch kernel beside a stand-in for the library: that it is guarded, and held to the reference."""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quantlab.engine.build import build_layer
from quantlab.engine.settings import LayerSettings
from quantlab.kernels import zen
from quantlab.kernels.check import Oracle, check
from quantlab.kernels.table import KERNELS

CPU = torch.device("cpu")


def quantized(**settings):
    torch.manual_seed(0)
    chosen = LayerSettings(**{"weights": 8, "activations": 8, **settings})
    return build_layer("layer", nn.Linear(64, 24), chosen, seed=0, data=None)


def product(x, weight, scales, bias, *, swallows=False):
    """What the library computes, as it was measured; 4-bit weights come with a scale for each group."""
    seen = x.float()
    step = seen.abs().amax(dim=1, keepdim=True) / 127
    codes = (seen / step).round()
    if scales.dim() == 2:
        weight = (weight.float().unflatten(1, (len(scales), -1)) * scales.T[..., None]).flatten(1)
    else:
        weight = weight.float() * scales[:, None]
    out = F.linear(codes * step, weight, None if bias is None else bias.float()).to(x.dtype)
    return out.nan_to_num(0.0) if swallows else out


@pytest.fixture
def library(monkeypatch):
    """A stand-in that is right, imported with its cache off."""
    ops = SimpleNamespace(
        zentorch_dynamic_qlinear=lambda *given: product(*given, swallows=True),
        zentorch_woq_repack_weight=lambda codes: codes.view(torch.int8),
    )
    monkeypatch.setattr(torch.ops, "zentorch", ops, raising=False)
    monkeypatch.setitem(sys.modules, "zentorch", ModuleType("zentorch"))
    monkeypatch.setenv(zen.SWITCH, "0")
    return ops


def test_it_says_that_it_is_not_installed(monkeypatch):
    monkeypatch.delitem(sys.modules, "zentorch", raising=False)
    monkeypatch.setattr(zen.importlib.util, "find_spec", lambda name: None)
    assert "quantlab[zen]" in KERNELS["zentorch"].absent(CPU)


def test_a_library_that_was_imported_with_its_cache_on_is_not_used(library, monkeypatch):
    assert KERNELS["zentorch"].absent(CPU) == ""
    monkeypatch.delenv(zen.SWITCH)
    assert zen.SWITCH in KERNELS["zentorch"].absent(CPU)


def test_the_cache_is_off_before_the_import_and_a_failing_import_is_a_reason(monkeypatch):
    seen = []

    def fails(name):
        seen.append(zen.os.environ.get(zen.SWITCH))
        raise RuntimeError("undefined symbol\nof torch")

    monkeypatch.delitem(sys.modules, "zentorch", raising=False)
    monkeypatch.setenv(zen.SWITCH, "1")
    monkeypatch.setattr(
        zen.importlib.util, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None)
    )
    monkeypatch.setattr(zen.importlib, "import_module", fails)
    assert KERNELS["zentorch"].absent(CPU) == "zentorch cannot be imported (RuntimeError: undefined symbol)"
    assert seen == ["0"]


def test_it_is_taken_where_it_is_right_and_a_nan_never_reaches_it(library):
    assert check("zentorch", KERNELS["zentorch"], Oracle(quantized())).wrong == ""
    assert check("zentorch", KERNELS["zentorch"], Oracle(quantized(weights=4, low_rank=2))).wrong == ""


def test_groups_take_bfloat16_and_are_right_only_where_the_network_computes_in_it(library):
    grouped = Oracle(quantized(weights=4, weight_granularity="group", group_size=16))
    assert "float32" in check("zentorch", KERNELS["zentorch"], grouped).wrong
    assert check("zentorch", KERNELS["zentorch"], grouped, torch.bfloat16).wrong == ""


def test_answers_for_another_weight_are_seen(library):
    """What its cache did: the address was known, the weight was another."""
    library.zentorch_dynamic_qlinear = lambda x, weight, scales, bias: product(
        x, weight.flip(0), scales, bias
    )
    assert "is off by" in check("zentorch", KERNELS["zentorch"], Oracle(quantized())).wrong


@pytest.mark.parametrize(
    "settings",
    [
        {"activations": 4},
        {"activation_symmetric": False},
        {"activation_granularity": "tensor"},
        {"weights": 4, "weight_symmetric": False},
        {"weights": 8, "weight_granularity": "group", "group_size": 16},
        {"activations": 16},
    ],
)
def test_what_it_would_round_otherwise_it_refuses(settings):
    assert KERNELS["zentorch"].refuses(quantized(**settings))
