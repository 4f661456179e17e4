"""What a compensated branch gives on one calibration scene, before and after its correction. It fits nothing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from quantlab.engine.views import BranchOutput
from quantlab.engine.weight_steps import histogram_of
from quantlab.jobs import Job, check
from quantlab.kernels.compensated import CompensatedOutput, Wrapper

if TYPE_CHECKING:
    from quantlab.engine.quantize import Quantizer
    from quantlab.models.structure import BranchInfo


class _Enough(Exception):  # noqa: N818 - not an error: the branch has run
    """Leaves a forward pass."""


def branch_output(name: str, quantizer: Quantizer, job: Job | None = None) -> BranchOutput | None:
    """Run the first calibration scene up to the branch that ends with a layer; None where it has no correction.

    Args:
        name: Of a layer; only the last one of a branch has its output to show.
        quantizer: Holds the network.
        job: Checked before the run.
    """
    info = next((b for b in quantizer.structure.branches.values() if b.layers[-1:] == (name,)), None)
    fit = quantizer.fits.get(info.name) if info is not None else None
    if info is None or fit is None or fit.correction is None or not quantizer.calibration.inputs:
        return None
    check(job)
    watch = _Watch(info, quantizer.network, quantizer.reference)
    with watch.hooked(), torch.no_grad():
        try:
            quantizer.calibration.run(quantizer.network, quantizer.calibration.inputs[0])
        except _Enough:
            return watch.found()
    return None


class _Watch:
    """Notes what goes into a branch, what comes out of it, and what its correction makes of that."""

    def __init__(self, info: BranchInfo, network: nn.Module, reference: nn.Module) -> None:
        self._info, self._network, self._reference = info, network, reference
        self._x: Tensor | None = None
        self._call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._outputs: list[Tensor] = []

    def hooked(self) -> ExitStack:
        """Watch the network while the context lasts."""
        last = self._network.get_submodule(self._info.gamma or self._info.name)
        if not isinstance(last, CompensatedOutput):
            raise TypeError(f"{self._info.name} carries no correction")
        stack = ExitStack()
        branch = _inmost(self._network.get_submodule(self._info.name))
        if self._info.norm:
            norm = _inmost(self._network.get_submodule(self._info.norm))
            stack.callback(norm.register_forward_pre_hook(self._note_input).remove)
        stack.callback(branch.register_forward_pre_hook(self._note_call, with_kwargs=True).remove)
        stack.callback(last.inner.register_forward_hook(self._note_output).remove)
        stack.callback(last.register_forward_hook(self._finish).remove)
        return stack

    def found(self) -> BranchOutput:
        """The histograms and errors of what was seen."""
        exact = self._full_precision()
        before, after = self._outputs
        size = float(exact.double().norm()) or 1.0
        error, left = (float((exact - y).double().norm()) / size for y in (before, after))
        counted = [histogram_of(y.reshape(-1, y.shape[-1])) for y in (exact, before, after)]
        return BranchOutput(self._info.name, counted[0], counted[1], counted[2], error, left)

    def _note_input(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        self._x = args[0]

    def _note_call(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call = (args, kwargs)

    def _note_output(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        self._outputs.append(_first(output))

    def _finish(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        self._outputs.append(_first(output))
        raise _Enough

    def _full_precision(self) -> Tensor:
        (x, *rest), kwargs = self._call
        if self._x is not None:
            x = self._reference.get_submodule(self._info.norm)(self._x)
        output = _first(self._reference.get_submodule(self._info.name)(x, *rest, **kwargs))
        return self._reference.get_submodule(self._info.gamma)(output) if self._info.gamma else output


def _first(output: Any) -> Tensor:
    """The tensor of an output; of a tuple the first entry."""
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first


def _inmost(module: nn.Module) -> nn.Module:
    """The module itself, inside whatever wrapper stands there now."""
    while isinstance(module, Wrapper):
        module = module.inner
    return module
