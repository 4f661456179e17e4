"""Makes contenders: torch as it is, bfloat16 at its best, quantized layers executed, peers. It times nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quantlab.bench.speed.clock import Run
from quantlab.bench.speed.contenders import FLASH, Contender
from quantlab.bench.speed.gpu import attentions, flash_first, working_bytes
from quantlab.bench.speed.peers import PEERS
from quantlab.bench.speed.plan import CPU
from quantlab.bench.speed.subject import RotaryBlock, Subject
from quantlab.calibration.layer_data import LayerData
from quantlab.engine.build import build_layer
from quantlab.engine.plan import plan
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import Settings
from quantlab.engine.twin import twin
from quantlab.kernels.attention import use_attention
from quantlab.kernels.choose import execute
from quantlab.kernels.compute import lower
from quantlab.models.layers import LayerScale
from quantlab.models.places import Places
from quantlab.models.reconstruction import Reconstruction
from quantlab.models.structure import describe

ROWS = 64
Facts = dict[str, Any]


class Garage:
    """Makes contenders of one subject; what several of them need is made once.

    Args:
        subject: What they compute.
        tell: Hears who is being made.

    Attributes:
        networks: What contenders of our own call, by their names.
    """

    def __init__(self, subject: Subject, tell: Callable[[str], None] = lambda _: None) -> None:
        self.subject, self._tell = subject, tell
        self.networks: dict[str, nn.Module] = {}
        self._facts: dict[str, Facts] = {}
        self._half: nn.Module | None = None
        self._quantized: dict[str, nn.Module] = {}

    def make(self, contender: Contender) -> tuple[Run, Facts]:
        """What is timed, and what is to be told of it.

        Raises:
            QuantLabError: This machine, or this kernel, cannot do it.
        """
        self._tell(f"  making {contender.name}")
        run, facts = self._made(contender)
        run = flash_first(run) if contender.attention == FLASH else run
        return (run, facts) if self.subject.group.device == CPU else (run, facts | on_gpu(run))

    def _made(self, contender: Contender) -> tuple[Run, Facts]:
        if contender.maker == "stock":
            return self._stock(contender), {}
        if contender.maker in PEERS:
            return PEERS[contender.maker](self.subject, contender)
        if contender.name not in self._facts:
            half = contender.maker == "best"
            network = twin(self.half() if half else self.quantized(contender.settings))
            facts = {} if half else executed(network, contender)
            self._facts[contender.name] = facts | finish(network, contender)
            self.networks[contender.name] = network
        run = self.subject.run(self.networks[contender.name], getattr(torch, contender.compute))
        return run, self._facts[contender.name]

    def half(self) -> nn.Module:
        """The module with its matrices stored in bfloat16, those of heads apart; all else is shared."""
        if self._half is None:
            self._half = twin(self.subject.module)
            for name, layer in self._half.named_modules():
                if isinstance(layer, nn.Linear | nn.Conv2d) and "head" not in name:
                    layer.weight = nn.Parameter(layer.weight.detach().bfloat16(), requires_grad=False)
                    if layer.bias is not None:
                        layer.bias = nn.Parameter(layer.bias.detach().bfloat16(), requires_grad=False)
        return self._half

    def quantized(self, settings: Mapping[str, Any]) -> nn.Module:
        """The module with every Linear quantized and its codes packed."""
        key = repr(sorted(settings.items()))
        if key not in self._quantized:
            self._quantized[key] = quantized(self.subject.module, settings)
        return self._quantized[key]

    def _stock(self, contender: Contender) -> Run:
        exact = contender.compute == "float32"
        network = self.subject.module if exact else twin(self.half())
        self.networks[contender.name] = network
        if exact:
            return self.subject.run(self.subject.module)
        if self.subject.group.level == "linear":
            return self.subject.run(network, torch.bfloat16)
        if self.subject.group.whole:
            network.compute_dtype = torch.bfloat16  # type: ignore[assignment]
            return self.subject.run(network)

        def call(x: Tensor) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return network(x)

        return self.subject.run(call)


def quantized(module: nn.Module, settings: Mapping[str, Any]) -> nn.Module:
    """A copy with every Linear rounded to nearest, one layer after the other, of which only the codes are kept.

    Where a recipe asks for calibration (smoothing, static scales) it gets a few random rows: they decide values, not
    speeds.
    """
    network, structure = twin(module), describe(module)
    recipe = Recipe(scope="linears", defaults=Settings(settings))
    places, decided = Places(network), plan(structure, recipe)
    for name in decided.quantized:
        layer = places.original(name)
        made = build_layer(name, layer, decided.layers[name].settings, seed=0, data=seen(layer))
        made.keep_packed()
        places.put(name, made)
    return network


def executed(network: nn.Module, contender: Contender) -> Facts:
    """Exchange the layers of ``network`` for executed ones, and tell by which kernels.

    Raises:
        DeviceError: A kernel that was asked for by name takes no layer.
        RecipeError: There is no such kernel.
    """
    return {"kernels": execute(network, kernel=contender.kernel, compute=contender.compute).kernels}


def finish(network: nn.Module, contender: Contender) -> Facts:
    """Set the arithmetic between the layers and the attention, and tell which attention it is."""
    half = contender.compute == "bfloat16"
    if isinstance(network, Reconstruction):
        lower(network, contender.compute)
    elif half:
        _lower_block(network)
    return {"attention": use_attention(network, contender.attention, compute=contender.compute)}


def _lower_block(network: nn.Module) -> None:
    """What `lower` does to a network, for a block alone, whose linears have their kernels or are in bfloat16."""
    for module in network.modules():
        if isinstance(module, RotaryBlock):
            module.rotary_dtype = torch.float32
        if isinstance(module, LayerScale):
            module.gamma = nn.Parameter(module.gamma.detach().bfloat16(), requires_grad=False)


def on_gpu(run: Run) -> Facts:
    """What is to be told of a run on a GPU: torch's attentions that it called, and the memory it worked in."""
    return {"attentions": attentions(run), "working_bytes": working_bytes(run)}


def seen(layer: nn.Module) -> LayerData:
    """What calibration might have seen at the input of a layer."""
    weight = layer.get_parameter("weight")
    width = int(weight.shape[1])
    rows = torch.randn(ROWS, width, generator=torch.Generator().manual_seed(width)).to(weight.device)
    return LayerData(rows, rows.abs().amax(0), np.zeros(ROWS, np.uint8))
