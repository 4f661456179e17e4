"""Profiles a network: streams every layer's input into tail statistics while scenes run. It keeps no activations."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.calibration.observe import Run, observe
from quantlab.calibration.passes import Batch, Groupings
from quantlab.calibration.profile import ALL, LayerProfile, Profile, TokenStats
from quantlab.calibration.streams import InputStream
from quantlab.jobs import Job, between, step
from quantlab.models.structure import LayerInfo, Structure
from quantlab.models.tokens import PATCH, TokenLayout

OF_RUNS = 0.9
"""Share of a profile's progress that its runs make; the rest is the weights."""


def capture_profile(
    network: nn.Module,
    structure: Structure,
    run: Run | None,
    inputs: Iterable[Any],
    layouts: Sequence[TokenLayout | None] = (),
    job: Job | None = None,
    *,
    scenes: Sequence[str] = (),
) -> Profile:
    """Run every input once and gather the statistics of each layer's inputs and weight.

    Arguments and errors are those of `observe`.

    Raises:
        NumericError: A layer received a NaN or an infinity; the layer is named.
    """
    start = time.perf_counter()
    collector = ProfileCollector(structure)
    running = between(job, 0.0, OF_RUNS)
    observe(network, structure, run, inputs, layouts, observers=[collector], scenes=scenes, job=running)
    return collector.profile(network, scenes, since=start, job=between(job, OF_RUNS, 1.0))


class ProfileCollector:
    """An observer that streams layer inputs into statistics."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._streams: dict[str, InputStream] = {}
        self._groupings = Groupings()
        self._known: dict[str, NDArray[np.uint8]] = {}
        self._siblings = _siblings(structure)
        self._last: tuple[Tensor, int, Batch] | None = None

    def see(self, info: LayerInfo, x: Tensor, kinds: NDArray[np.uint8], scene: int) -> None:
        """Add one input; layers that share it (separate queries, keys and values) share the pass over it."""
        stream = self._streams.get(info.name)
        if stream is None:
            maps = info.operator != "linear" and x.dim() >= 3
            stream = InputStream((int(kinds[0]),), maps=maps, groupings=self._groupings)
            self._streams[info.name] = stream
        if kinds is not self._known.get(info.name):
            stream.admit(kinds)
            self._known[info.name] = kinds
        if info.name not in self._siblings or x.is_inference():
            stream.take(x, kinds, scene, place=info.name)
            return
        version = x._version  # noqa: SLF001 - counts changes in place; torch offers no other way to see them
        last = self._last
        if last is None or last[0] is not x or last[1] != version or not stream.fits(last[2]):
            last = self._last = (x, version, stream.measure(x, kinds, place=info.name))
        stream.add(last[2], kinds)

    def profile(
        self, network: nn.Module, scenes: Sequence[str] = (), *, since: float = 0.0, job: Job | None = None
    ) -> Profile:
        """Everything seen so far, with the statistics of the weights; ``since`` is a time.perf_counter()."""
        self._last = None
        for name, stream in self._streams.items():
            stream.settle(place=name)
        layers: dict[str, LayerProfile] = {}
        for done, (name, info) in enumerate(self._structure.layers.items()):
            if name in self._streams:
                step(job, done, len(self._structure.layers), f"weight of {name}")
                weight = network.get_submodule(name).get_parameter("weight").detach()
                if weight.numel():
                    layers[name] = _layer_profile(info, self._streams[name], weight)
        return Profile(layers, tuple(scenes), time.perf_counter() - since if since else 0.0)


def weight_stats(weight: Tensor, operator: str, *, place: str = "") -> tuple[TokenStats, NDArray[np.float32]]:
    """Statistics of a weight, and the largest |w| of each of its input channels, float32 [in]."""
    rows = weight.flatten(1)
    kinds = np.array([PATCH], dtype=np.uint8)
    stream = InputStream((PATCH,), maps=False)
    stream.add(stream.measure(rows, kinds, place=place), kinds)
    if operator == "linear":
        maxima = stream.channel_max
    else:
        others = (1, 2, 3) if operator == "conv_transpose2d" else (0, 2, 3)
        maxima = weight.abs().amax(others).float().cpu().numpy()
    return stream.stats()[ALL], maxima


def _layer_profile(info: LayerInfo, stream: InputStream, weight: Tensor) -> LayerProfile:
    of_weight, weight_channel_max = weight_stats(weight, info.operator, place=info.name)
    return LayerProfile(
        name=info.name,
        kind=info.kind,
        stream=info.stream,
        block=info.block,
        index=info.index,
        tokens=stream.stats(),
        channel_max=stream.channel_max,
        token_max=stream.token_max,
        token_kinds=stream.token_kinds,
        weight=of_weight,
        weight_channel_max=weight_channel_max,
    )


def _siblings(structure: Structure) -> frozenset[str]:
    """Layers that may read one tensor: several of kind "qkv" and one width under one parent."""

    def family(info: LayerInfo) -> tuple[str, int]:
        return info.name.rpartition(".")[0], info.in_features

    readers = [info for info in structure.layers.values() if info.kind == "qkv"]
    sizes = Counter(map(family, readers))
    return frozenset(info.name for info in readers if sizes[family(info)] > 1)
