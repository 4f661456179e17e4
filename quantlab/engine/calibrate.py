"""The scenes a network is calibrated on, run only when a recipe asks for them. What is made of them is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.calibration.observe import observe
from quantlab.calibration.samples import ROWS, LayerSamples, SampleCollector
from quantlab.engine.subject import named_outputs
from quantlab.errors import RecipeError
from quantlab.jobs import Job
from quantlab.models.prediction import Prediction
from quantlab.models.structure import Structure, TokenLayout, observed_order

SAMPLE_BYTES = 1 << 29
"""Memory for sampled layer inputs."""
FEWEST_ROWS = 64
Decode = Callable[[Mapping[str, Tensor], Any], Prediction | None]


class Calibration:
    """Inputs, how to run them, and the samples of layer inputs they gave.

    Args:
        inputs: One entry a scene.
        predict: ``predict(network, input)``; by default the network is called with the tensor, with the entries of a
            tuple, or with those of a dict by name.
        layouts: Token layout of each input, so that samples keep all special tokens.
        samples: Already collected ones; otherwise they are collected when first asked for.
        which: Tells these inputs from others of the same lab: equal where the inputs are.
        decode: Reads a reconstruction from the outputs on an input, for what is judged by it; None: outputs as such.
    """

    def __init__(
        self,
        inputs: Sequence[Any] = (),
        predict: Callable[[nn.Module, Any], Any] | None = None,
        *,
        layouts: Sequence[TokenLayout | None] = (),
        samples: LayerSamples | None = None,
        which: Hashable = "all",
        decode: Decode | None = None,
    ) -> None:
        self.which = which
        self.decode = decode
        self.inputs = list(inputs)
        self.layouts = tuple(layouts)
        self._predict = predict or call
        self._samples = samples
        self._order: dict[str, int] | None = None

    def run(self, network: nn.Module, given: Any) -> Any:
        """The output of a network on one input, without gradients."""
        with torch.no_grad():
            return self._predict(network, given)

    def outputs(self, network: nn.Module, given: Any) -> dict[str, Tensor]:
        """Output tensors by name, with gradients where they are enabled."""
        return named_outputs(self._predict(network, given))

    def require_inputs(self, purpose: str) -> list[Any]:
        """The inputs.

        Raises:
            RecipeError: There are none.
        """
        if not self.inputs:
            raise RecipeError(
                f"{purpose} needs calibration",
                place="calibration",
                remedy="Pass at least one calibration input.",
            )
        return self.inputs

    def samples(
        self, network: nn.Module, structure: Structure, name: str, job: Job | None = None
    ) -> LayerData | None:
        """What calibration saw at the input of a layer; rows of length 0 where it never ran; None without inputs.

        All layers are sampled on the first call, in one pass over the scenes.
        """
        if self._samples is None:
            if not self.inputs:
                return None
            self._samples = self._collect(network, structure, job)
        return self.of(self._samples, name, network, structure)

    @property
    def pending(self) -> bool:
        """Whether samples are still to be collected, which takes a pass over the scenes."""
        return self._samples is None and bool(self.inputs)

    def collector(self, structure: Structure) -> SampleCollector:
        """An observer that takes the samples while the scenes run for another reason; hand them to `keep`.

        It takes fewer rows of each layer where a network has many and wide Linears. Convolutions, which are only
        looked at, have a few hundred channels at most and do not count.
        """
        widths = [info.in_features for info in structure.layers.values() if info.operator == "linear"]
        rows = SAMPLE_BYTES // (4 * max(1, sum(widths)))
        return SampleCollector(min(ROWS, max(FEWEST_ROWS, rows)))

    def keep(self, samples: LayerSamples) -> None:
        """Use these samples from now on."""
        self._samples = samples

    def _collect(self, network: nn.Module, structure: Structure, job: Job | None) -> LayerSamples:
        collector = self.collector(structure)
        count = observe(
            network,
            structure,
            lambda given: self.run(network, given),
            self.inputs,
            self.layouts,
            observers=[collector],
            job=job,
        )
        return collector.samples(count)

    @staticmethod
    def of(samples: LayerSamples, name: str, network: nn.Module, structure: Structure) -> LayerData:
        """The samples of one layer, on the network's device."""
        width = structure.layers[name].in_features
        device = next(network.parameters()).device
        if name not in samples:
            nothing = np.zeros(0, dtype=np.uint8)
            return LayerData(torch.zeros(0, width, device=device), torch.zeros(width, device=device), nothing)
        rows, peaks = torch.as_tensor(samples.rows(name)), torch.as_tensor(samples.absmax(name))
        return LayerData(rows.to(device), peaks.to(device), np.asarray(samples.kinds(name)))

    def order(self, network: nn.Module, structure: Structure) -> Mapping[str, int]:
        """Layer to its place in the order of execution; observed once where the network does not state it."""
        if self._order is None:
            names = list(structure.layers)
            if not callable(getattr(network, "execution_order", None)):
                first = self.require_inputs("compensation")[0]
                seen = observed_order(network, lambda: self.run(network, first))
                names = list(dict.fromkeys((*seen, *names)))
            self._order = {name: rank for rank, name in enumerate(names)}
        return self._order


def call(network: nn.Module, given: Any) -> Any:
    """Call a network with a tensor, a tuple of positional or a dict of named arguments."""
    if isinstance(given, dict):
        return network(**given)
    if isinstance(given, list | tuple) and not isinstance(given, Tensor):
        return network(*given)
    return network(given)
