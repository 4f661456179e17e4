"""Keeps a bounded, seeded sample of every layer's input rows, for methods that must see values. No statistics."""

from __future__ import annotations

import math
import zlib
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.calibration.observe import Run, observe
from quantlab.errors import NumericError
from quantlab.jobs import Job
from quantlab.models.structure import LayerInfo, Structure
from quantlab.models.tokens import PATCH, TokenLayout
from quantlab.numerics.finite import require_finite

ROWS = 1024
PIXELS = 4
"""Of a convolution's input, so many times the rows to keep are offered from each scene, on an even grid."""
T = TypeVar("T")


class LayerSamples:
    """Rows of layer inputs by layer name. Special tokens come first; they are rare and carry the outliers.

    A row of a convolution is one pixel over its input channels; of large maps an even grid of pixels is seen.
    """

    def __init__(
        self,
        rows: dict[str, Tensor],
        kinds: dict[str, NDArray[np.uint8]],
        absmax: dict[str, Tensor],
        scenes: int = 0,
    ) -> None:
        self._rows, self._kinds, self._absmax = rows, kinds, absmax
        self.scenes = scenes

    def __contains__(self, name: object) -> bool:
        """Whether the layer ran while samples were taken."""
        return name in self._rows

    @property
    def names(self) -> tuple[str, ...]:
        """The layers that have samples, in the order in which they first ran."""
        return tuple(self._rows)

    def rows(self, name: str) -> Tensor:
        """Input rows float32 [n, in], special tokens first; n is at most the number asked for."""
        return _of(self._rows, name)

    def kinds(self, name: str) -> NDArray[np.uint8]:
        """Kind code of each row, uint8 [n]."""
        return _of(self._kinds, name)

    def absmax(self, name: str) -> Tensor:
        """Largest |x| of each channel over all tokens of all scenes, not only the sampled ones: float32 [in]."""
        return _of(self._absmax, name)

    @property
    def bytes(self) -> int:
        """Memory held."""
        return sum(tensor.nbytes for tensor in (*self._rows.values(), *self._absmax.values()))


def collect_samples(
    network: nn.Module,
    structure: Structure,
    run: Run | None,
    inputs: Iterable[Any],
    layouts: Sequence[TokenLayout | None] = (),
    *,
    rows: int = ROWS,
    job: Job | None = None,
    layers: Iterable[str] | None = None,
    seed: int = 0,
    scenes: Sequence[str] = (),
) -> LayerSamples:
    """Run every input once and keep rows of each layer's inputs.

    Special tokens are kept first, up to half of ``rows`` (all of them when they are fewer); patches fill what is
    left. Beyond that, every token of every scene has the same chance. Memory is bounded by ``rows`` and does not
    grow with the scenes.

    Args:
        network: As in `observe`, like all that is not explained here.
        structure: Its layers.
        run: Called with each input.
        inputs: One entry a scene.
        layouts: Token layout of each input.
        rows: Rows kept a layer.
        job: Progress and cancellation.
        layers: Names of the layers to sample; all by default.
        scenes: Names for progress and errors.
        seed: The same seed and inputs give the same rows, whatever other layers are sampled.
    """
    layers = None if layers is None else frozenset(layers)
    collector = SampleCollector(rows, seed=seed, layers=layers)
    count = observe(
        network, structure, run, inputs, layouts, observers=[collector], layers=layers, scenes=scenes, job=job
    )
    return collector.samples(count)


def _of(table: Mapping[str, T], name: str) -> T:
    if name not in table:
        raise NumericError(
            "no calibration samples of this layer",
            place=name,
            remedy="Run calibration on scenes that reach the layer.",
        )
    return table[name]


class SampleCollector:
    """An observer that keeps rows; of ``layers`` only, where they are given."""

    def __init__(self, rows: int = ROWS, *, seed: int = 0, layers: Container[str] | None = None) -> None:
        self._limit, self._seed, self._wanted = rows, seed, layers
        self._layers: dict[str, _Sample] = {}

    def see(self, info: LayerInfo, x: Tensor, kinds: NDArray[np.uint8], scene: int) -> None:
        """Keep some rows of one input."""
        del scene
        if self._wanted is not None and info.name not in self._wanted:
            return
        sample = self._layers.get(info.name)
        if sample is None:
            entropy = [self._seed, zlib.crc32(info.name.encode())]
            sample = self._layers[info.name] = _Sample(self._limit, np.random.default_rng(entropy))
        maps = info.operator != "linear" and x.dim() >= 3
        if maps:
            x = _thinned(x, PIXELS * self._limit)
        table = x.detach().movedim(-3, -1).flatten(0, -2) if maps else x.detach().reshape(-1, x.shape[-1])
        try:
            sample.add(table, np.resize(kinds, len(table)))
        except NumericError:
            require_finite(table, place=info.name)
            raise

    def samples(self, scenes: int = 0) -> LayerSamples:
        """What was kept."""
        found = {name: sample.finish() for name, sample in self._layers.items()}
        return LayerSamples(
            {name: rows for name, (rows, _) in found.items()},
            {name: kinds for name, (_, kinds) in found.items()},
            {name: sample.absmax for name, sample in self._layers.items() if sample.absmax is not None},
            scenes,
        )


def _thinned(x: Tensor, most: int) -> Tensor:
    """An even grid of at most about ``most`` pixels of maps ``[..., channels, h, w]``, which can have millions."""
    pixels = x.numel() // max(1, x.shape[-3])
    stride = max(1, math.ceil(math.sqrt(pixels / most)))
    return x[..., ::stride, ::stride]


class _Sample:
    """Two reservoirs of one layer, special tokens and patches: of all seen, those with the smallest lots stay."""

    def __init__(self, limit: int, rng: np.random.Generator) -> None:
        self.absmax: Tensor | None = None
        self._limit, self._rng = limit, rng
        self._special, self._patches = _Reservoir(max(1, limit // 2)), _Reservoir(limit)

    def add(self, table: Tensor, kinds: NDArray[np.uint8]) -> None:
        largest = table.abs().amax(0).float()
        if not bool(largest.amax().isfinite()):
            raise NumericError("a NaN or an infinity")
        self.absmax = largest if self.absmax is None else torch.maximum(self.absmax, largest)
        lots = self._rng.random(len(table))
        special = np.flatnonzero(kinds != PATCH)
        patches = np.flatnonzero(kinds == PATCH)
        self._special.add(table, kinds, lots, special)
        self._patches.add(table, kinds, lots, patches)

    def finish(self) -> tuple[Tensor, NDArray[np.uint8]]:
        # Rows lie in the order of their lots, so the first ones are a fair sample too.
        room = self._limit - len(self._special.kinds)
        pools = ((self._special, self._limit), (self._patches, room))
        parts = [pool.rows[:count] for pool, count in pools if len(pool.kinds) and count]
        kinds = np.concatenate([pool.kinds[:count] for pool, count in pools])
        return torch.cat(parts), kinds


class _Reservoir:
    """The rows with the smallest lots of all that were offered."""

    def __init__(self, capacity: int) -> None:
        self.rows = torch.zeros(0)
        self.kinds = np.zeros(0, dtype=np.uint8)
        self._capacity = capacity
        self._lots = np.zeros(0)

    def add(
        self, table: Tensor, kinds: NDArray[np.uint8], lots: NDArray[np.float64], offered: NDArray[np.intp]
    ) -> None:
        if len(self._lots) >= self._capacity:
            offered = offered[lots[offered] < self._lots.max()]
        offered = offered[np.argsort(lots[offered], kind="stable")[: self._capacity]]
        if not len(offered):
            return
        rows = table[torch.from_numpy(offered).to(table.device)].float()
        if len(self._lots):
            rows = torch.cat((self.rows, rows))
        codes = np.concatenate((self.kinds, kinds[offered]))
        every = np.concatenate((self._lots, lots[offered]))
        kept = np.argsort(every, kind="stable")[: self._capacity]
        self.rows = rows[torch.from_numpy(kept).to(rows.device)]
        self.kinds, self._lots = codes[kept], every[kept]
