"""One full-precision pass over the calibration scenes that learns all there is on the way. It decides nothing.

A network of released size takes a minute a pass, so what needs the same pass shares it: the profile, the samples of
layer inputs, the outputs, and the blocks' inputs that a diagnosis starts from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quantlab.calibration.capture import OF_RUNS, ProfileCollector
from quantlab.calibration.observe import Observer, observe
from quantlab.calibration.profile import Profile
from quantlab.calibration.running import all_finite
from quantlab.engine.execution import Clock, Run, clocked, finished, wait
from quantlab.engine.quantize import Quantizer
from quantlab.engine.replay import BlockCache
from quantlab.engine.subject import Subject
from quantlab.jobs import Job, between
from quantlab.models.structure import LayerInfo, Structure

RECORDED = 4
"""Scenes whose full-precision blocks are remembered; memory does not grow with more."""
Found = Callable[[int, Callable[[], Run]], None]
"""``found(index, run)`` may ask for the run of the scene that has just passed."""


def survey(
    subject: Subject,
    quantizer: Quantizer,
    cache: BlockCache,
    *,
    scenes: Sequence[str] = (),
    found: Found | None = None,
    job: Job | None = None,
) -> Profile:
    """Run every calibration scene once at full precision.

    Args:
        subject: How the network is run.
        quantizer: Its calibration gets the samples, unless it has them.
        cache: Remembers the blocks of the first scenes.
        scenes: Names of the calibration scenes.
        found: Told of each scene.
        job: Checked before every layer, told of every block.

    Raises:
        NumericError: A layer received a NaN or an infinity; the layer is named.
        SceneError: There is no calibration scene.
    """
    begun, calibration, structure = time.perf_counter(), quantizer.calibration, quantizer.structure
    profile = ProfileCollector(structure)
    samples = calibration.collector(structure) if calibration.pending else None
    watch = _Watch([profile] if samples is None else [profile, samples])
    count = observe(
        quantizer.reference,
        structure,
        _Passes(subject, quantizer, cache, watch, found),
        calibration.inputs,
        calibration.layouts,
        observers=[watch],
        scenes=scenes,
        job=between(job, 0.0, OF_RUNS),
    )
    if samples is not None:
        calibration.keep(samples.samples(count))
    return profile.profile(quantizer.reference, scenes, since=begun, job=between(job, OF_RUNS, 1.0))


def full_precision(structure: Structure) -> dict[str, Hashable]:
    """States of all blocks while nothing is quantized, as `Quantizer.states` gives them."""
    return dict.fromkeys(structure.blocks, ())


class _Watch:
    """Shows layers to observers, and keeps the time that takes from the clock."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self.clock: Clock | None = None

    def see(self, info: LayerInfo, x: Tensor, kinds: NDArray[np.uint8], scene: int) -> None:
        """Pass it on."""
        start = time.perf_counter()
        for observer in self._observers:
            observer.see(info, x, kinds, scene)
        if self.clock is not None:
            self.clock.leave_out(time.perf_counter() - start)


class _Passes:
    """Runs scene after scene."""

    def __init__(
        self, subject: Subject, quantizer: Quantizer, cache: BlockCache, watch: _Watch, found: Found | None
    ) -> None:
        self._subject, self._quantizer, self._cache = subject, quantizer, cache
        self._watch, self._found, self._count = watch, found, 0

    def __call__(self, value: Any) -> None:
        index, self._count = self._count, self._count + 1
        network, structure = self._quantizer.reference, self._quantizer.structure
        with ExitStack() as stack:
            if index < RECORDED:
                states = full_precision(structure)
                stack.enter_context(self._cache.installed(network, states, answers=False))
            clock = self._watch.clock = stack.enter_context(clocked(network, structure))
            outputs = self._subject.run(network, value)
            wait(outputs)
            seconds = clock.seconds()
        if self._found is not None and all_finite(outputs):
            self._found(index, lambda: finished(self._subject, value, outputs, seconds, clock.begun))
