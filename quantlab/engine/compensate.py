"""Fits the corrections of branches along the quantized trajectory, branch by branch over all calibration scenes.

The arithmetic of the fit is `quantlab.methods.compensation`; here the networks are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.calibration.running import memory_errors
from quantlab.engine.lockstep import Meet, run_in_lockstep
from quantlab.engine.plan import BranchPlan
from quantlab.jobs import Job, check, step
from quantlab.kernels.compensated import corrected
from quantlab.kernels.reference import Simulated
from quantlab.methods.compensation import Correction, ErrorMoments, explained, fit_correction
from quantlab.models.structure import BranchInfo
from quantlab.numerics.tails import tail_relative_error

Predict = Callable[[nn.Module, Any], Any]
"""``predict(network, input)`` runs a network on one calibration input."""
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, Simulated)
"""Before each of them the job is checked: a large network spends seconds in a block."""
HELD_OUT = 4
"""One scene in so many is kept out of the fit that the gate judges."""


@dataclass(frozen=True, slots=True, eq=False)
class BranchFit:
    """The verdict on one branch.

    Attributes:
        correction: What is added, or None.
        tre: Top-error ratio before the correction, on the inputs the quantized network makes; mean over scenes.
        r2: Of the truncated fit, on calibration scenes it was not fitted on (with one scene: on every other token).
        reason: The verdict in words.
    """

    name: str
    correction: Correction | None
    tre: float
    r2: float
    reason: str


def fit_branches(
    quantized: nn.Module,
    original: nn.Module,
    branches: Sequence[tuple[BranchInfo, BranchPlan]],
    inputs: Sequence[Any],
    predict: Predict,
    job: Job | None = None,
) -> dict[str, BranchFit]:
    """Fit each branch on y - y_hat, both of the same residual-stream input x of the quantized network.

    All scenes run in lockstep: a branch is fitted when all have reached it, and what follows sees its correction.
    Memory holds the running activations of all scenes and the sums of one branch, whatever the number of tokens. A
    run ends at the last of the branches. A branch that a network calls several times is fitted on the first call.

    Args:
        quantized: Runs; its branches to fit carry no correction.
        original: The same network in full precision; only its branches run.
        branches: In the order they are executed.
        inputs: Calibration scenes.
        predict: Runs a network on one of them.
        job: Checked before every layer.

    Raises:
        JobCancelledError: The job was cancelled.
    """
    fitter = _Fitter(quantized, original, branches, len(inputs), job)

    def task(index: int) -> Callable[[Meet], None]:
        return lambda meet: fitter.run(index, meet, lambda: predict(quantized, inputs[index]))

    with fitter.hooked(), memory_errors("fitting the compensation", list(inputs)):
        run_in_lockstep([task(index) for index in range(len(inputs))], fitter.decide)
    return fitter.verdicts()


class _Enough(Exception):  # noqa: N818 - not an error: the last branch is fitted
    """Leaves a forward pass."""


@dataclass(slots=True)
class _Call:
    """What one running scene knows of the branch it is in."""

    x: Tensor | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one scene contributes to the fit of one branch; None where its shapes do not allow a fit."""

    tre: float
    kept: ErrorMoments | None
    held: ErrorMoments | None


class _Fitter:
    """The hooks and their common state. Scenes run one at a time: `_scene` is the running one."""

    def __init__(
        self,
        quantized: nn.Module,
        original: nn.Module,
        branches: Sequence[tuple[BranchInfo, BranchPlan]],
        scenes: int,
        job: Job | None,
    ) -> None:
        self._quantized, self._original, self._job = quantized, original, job
        self._branches = {info.name: (info, plan) for info, plan in branches}
        self._scenes = scenes
        self._fits: dict[str, BranchFit] = {}
        self._calls: dict[tuple[int, str], _Call] = {}
        self._meets: dict[int, Meet] = {}
        self._scene = 0

    def run(self, scene: int, meet: Meet, forward: Callable[[], object]) -> None:
        """One scene, from its own thread."""
        self._meets[scene] = meet
        self._scene = scene
        try:
            with torch.no_grad():
                forward()
        except _Enough:
            pass

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Watch the branches of the quantized network while the context lasts."""
        with ExitStack() as stack:
            for module in self._quantized.modules() if self._job else ():
                if isinstance(module, LAYERS):
                    stack.callback(module.register_forward_pre_hook(self._check).remove)
            for name, (info, _) in self._branches.items():
                branch = _inner(self._quantized, name)
                first = _inner(self._quantized, info.norm) if info.norm else None
                last = _inner(self._quantized, info.gamma) if info.gamma else branch
                handles = [
                    branch.register_forward_pre_hook(self._note_call(name), with_kwargs=True),
                    last.register_forward_hook(self._compare(name)),
                ]
                if first is not None:
                    handles.append(first.register_forward_pre_hook(self._note_input(name)))
                for handle in handles:
                    stack.callback(handle.remove)
            yield

    def decide(self, point: Any, contributions: list[Seen]) -> BranchFit:
        """Fit one branch from what all scenes saw of it."""
        plan = self._branches[point][1]
        fit = self._fits[point] = judge(plan, contributions, self._job)
        step(self._job, len(self._fits), len(self._branches), f"compensate {point}")
        return fit

    def verdicts(self) -> dict[str, BranchFit]:
        """One of every branch, those that never ran included."""
        absent = "the branch never ran on the calibration scenes"
        return {
            name: self._fits.get(name) or BranchFit(name, None, 0.0, float("-inf"), absent)
            for name in self._branches
        }

    def _check(self, *_: object) -> None:
        check(self._job)

    def _note_input(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            self._calls[self._scene, name] = _Call(args[0])

        return hook

    def _note_call(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = self._calls.setdefault((self._scene, name), _Call())
            call.args, call.kwargs = args, kwargs
            if call.x is None:
                call.x = args[0]

        return hook

    def _compare(self, name: str) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
            scene, call = self._scene, self._calls.pop((self._scene, name), None)
            if call is None or call.x is None:
                return None
            fit = self._fits.get(name)
            if fit is None:
                seen = self._look(name, call, output)
                fit = self._meets[scene](name, seen)
                self._scene = scene  # other scenes ran meanwhile
            if len(self._fits) == len(self._branches):
                raise _Enough
            return None if fit.correction is None else corrected(output, fit.correction(call.x))

        return hook

    def _look(self, name: str, call: _Call, output: Any) -> Seen:
        info, plan = self._branches[name]
        x, y_hat = call.x, _tensor(output)
        if x is None or y_hat is None or x.shape[:-1] != y_hat.shape[:-1]:
            return Seen(0.0, None, None)
        y = _full_precision(self._original, info, call)
        if y is None or y.shape != y_hat.shape:
            return Seen(0.0, None, None)
        tre = tail_relative_error(y.float(), y_hat.float(), plan.settings.tre_fraction)
        rows, error = x.flatten(0, -2).float(), (y.float() - y_hat.float()).flatten(0, -2)
        if self._scenes == 1:
            return Seen(tre, ErrorMoments.of(rows[::2], error[::2]), ErrorMoments.of(rows[1::2], error[1::2]))
        moments = ErrorMoments.of(rows, error)
        held = self._scene >= self._scenes - max(1, self._scenes // HELD_OUT)
        return Seen(tre, None if held else moments, moments if held else None)


def judge(plan: BranchPlan, seen: Sequence[Seen], job: Job | None = None) -> BranchFit:
    """Decide whether a branch is compensated, and by what; the final fit uses all scenes."""
    tre = sum(scene.tre for scene in seen) / len(seen)
    kept, held = _sum([scene.kept for scene in seen]), _sum([scene.held for scene in seen])
    forced, settings = plan.compensated == "on", plan.settings
    if kept is None or held is None or not kept.rows or not held.rows:
        return BranchFit(
            plan.name, None, tre, float("-inf"), "too little calibration, or an output of another shape"
        )
    if not forced and tre < settings.tre_threshold:
        return BranchFit(
            plan.name, None, tre, float("nan"), f"TRE {tre:.2g} is below {settings.tre_threshold:g}"
        )
    r2 = explained(fit_correction(kept, plan.rank), held)
    if not forced and not r2 > 0:
        return BranchFit(
            plan.name, None, tre, r2, f"TRE {tre:.2g}, but the fit does not hold elsewhere (R² {r2:.2g})"
        )
    check(job)  # each fit of a wide branch takes the better part of a second
    correction = fit_correction(kept + held, plan.rank)
    return BranchFit(plan.name, correction, tre, r2, f"TRE {tre:.2g}, R² {r2:.2g}, rank {plan.rank}")


def _full_precision(original: nn.Module, info: BranchInfo, call: _Call) -> Tensor | None:
    """What the branch gives in full precision for the same input."""
    if call.x is None:
        return None
    entry = original.get_submodule(info.norm)(call.x) if info.norm else call.x
    output = _tensor(original.get_submodule(info.name)(entry, *call.args[1:], **call.kwargs))
    if output is None:
        return None
    return original.get_submodule(info.gamma)(output) if info.gamma else output


def _sum(parts: Sequence[ErrorMoments | None]) -> ErrorMoments | None:
    total: ErrorMoments | None = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def _tensor(output: Any) -> Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) else None


def _inner(network: nn.Module, name: str) -> nn.Module:
    """The module itself, inside whatever wrapper stands there now."""
    module = network.get_submodule(name)
    while "inner" in module._modules:  # noqa: SLF001 - attributes of wrappers reach through
        module = module.get_submodule("inner")
    return module
