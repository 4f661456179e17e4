"""Gradients of a label-free loss at the outputs of watched modules, scene by scene. It keeps and quantizes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from quantlab.calibration.running import hooked, memory_errors, network_device, present
from quantlab.errors import DeviceError, RecipeError
from quantlab.jobs import Job, check, step

Run = Callable[[nn.Module, Any], Mapping[str, Tensor]]
"""``run(network, input)`` gives outputs by name, with whatever gradients are enabled outside."""
Losses = Callable[[Mapping[str, Tensor], int], Mapping[str, Tensor]]
"""``losses(outputs, scene)`` gives a scalar for each task."""
See = Callable[[str, str, Tensor, Tensor, int], None]
"""``see(task, name, output, gradient, scene)``; the tensors must not be kept or changed."""
Receive = Callable[[str, Tensor], None]
Take = Callable[[str, Tensor, Tensor, int], Receive | None]
"""``take(name, input, output, scene)`` in the forward pass answers who receives ``(task, gradient)`` of this call."""
WITHOUT = "Use search_loss 'output' and reconstruction 'block', which need no gradients."
SHARE_OF_MEMORY = 0.7
"""Of the memory that is free, what a backward pass may hold."""
TASKS = (("conf", ""), ("pose", "camera"), ("depth", "depth"), ("point", "points"))
"""What the name of an output contains, and the task it belongs to; "" is none, and all others are "output"."""


def gradients(
    network: nn.Module,
    run: Run,
    inputs: Sequence[Any],
    watched: Sequence[str],
    losses: Losses,
    see: See,
    *,
    job: Job | None = None,
    limit: int | None = None,
) -> None:
    """Run each input forward and backward and show what arrives at the watched modules.

    The rounding of activations is passed straight through (`quantlab.kernels.activations`). Memory is that of one
    scene's activations, whatever the number of scenes. The network is not changed: a copy runs, whose parameters are
    the same memory but ask for no gradients.

    Args:
        network: Full precision or simulated.
        run: Runs a network on an input.
        inputs: One a scene.
        watched: Names of modules; of those that do not exist nothing is seen. Their output is a tensor, or a tuple
            that begins with one.
        losses: Their gradients; each task takes a backward pass.
        see: Told of every call of a watched module that a loss depends on, in the order of the backward pass.
        job: Checked before every watched module.
        limit: Bytes that a scene may keep for its backward pass; None: most of the free memory.

    Raises:
        DeviceError: The backward pass does not fit.
        RecipeError: No loss depends on a watched module in a way that gradients can follow.
    """

    def take(name: str, _x: Tensor, output: Tensor, scene: int) -> Receive:
        return lambda task, gradient: see(task, name, output, gradient, scene)

    take_gradients(network, run, inputs, watched, losses, take, job=job, limit=limit)


def take_gradients(
    network: nn.Module,
    run: Run,
    inputs: Sequence[Any],
    watched: Sequence[str],
    losses: Losses,
    take: Take,
    *,
    job: Job | None = None,
    limit: int | None = None,
) -> None:
    """As `gradients`, but ``take`` is asked in the forward pass, call by call, who wants the gradients of it.

    So rows of an input and of the gradient can be sampled together, and the input need not be held until then.
    """
    copied = _without_gradients(network)
    state = _State(take)
    names = present(copied, watched)
    budget = memory_limit(copied) if limit is None else limit
    after = [(name, state.hook(name, job)) for name in names]
    with hooked(copied, (), after), torch.enable_grad():
        for scene, value in enumerate(inputs):
            step(job, scene, len(inputs), f"gradients of scene {scene + 1}")
            state.scene = scene
            with memory_errors("the backward pass", value):
                _one_scene(copied, run, value, losses, state, _Kept(copied, budget))


def distances(reference: nn.Module, run: Run, inputs: Sequence[Any], *, by_task: bool = False) -> Losses:
    """The label-free losses: squared distance of the outputs to those of full precision, relative to their size.

    Each floating output counts by its mean square, so that depths in metres do not drown poses; confidences are no
    reconstruction and do not count. The gradient at full precision is zero: it must be taken at a quantized network.

    Args:
        reference: The full-precision network, run anew for each scene so that no outputs pile up.
        run: Runs a network on an input.
        inputs: The scenes that will be asked about, by number.
        by_task: One loss for each of camera, depth and points (by the names of the outputs; others are "output")
            instead of their sum, "output".

    Source:
        TAPTQ (arXiv:2602.01741) takes the gradient of a task loss; the label-free proxy is our reading.
    """

    def losses(outputs: Mapping[str, Tensor], scene: int) -> dict[str, Tensor]:
        with torch.no_grad():
            exact = run(reference, inputs[scene])
        found: dict[str, Tensor] = {}
        for name, output in outputs.items():
            task = task_of(name) if len(outputs) > 1 else "output"
            if not task or name not in exact or not output.is_floating_point():
                continue
            y = exact[name].float()
            loss = (output.float() - y).square().mean() / y.square().mean().clamp(min=1e-12)
            key = task if by_task else "output"
            found[key] = found[key] + loss if key in found else loss
        return found

    return losses


def task_of(output: str) -> str:
    """The task that an output belongs to, by its name: camera, depth, points or output; "" for a confidence."""
    return next((task for part, task in TASKS if part in output), "output")


class _State:
    """What the hooks share: the scene that runs, the task whose gradients arrive, who is to receive them."""

    def __init__(self, take: Take) -> None:
        self.scene, self.task = 0, ""
        self._take = take

    def hook(self, name: str, job: Job | None) -> Callable[..., Any]:
        def after(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            check(job)
            first = output[0] if isinstance(output, tuple) and output else output
            x = args[0] if args else next(iter(kwargs.values()), None)
            if not isinstance(first, Tensor) or not isinstance(x, Tensor) or not first.is_floating_point():
                return None
            # Where gradients begin: a clone, because what follows may change it in place, and a leaf may not be.
            begins = not first.requires_grad
            tracked = first.detach().requires_grad_().clone() if begins else first
            receive = self._take(name, x.detach(), tracked.detach(), self.scene)
            if receive is not None:
                tracked.register_hook(lambda gradient: receive(self.task, gradient))
            if not begins:
                return None
            return (tracked, *output[1:]) if isinstance(output, tuple) else tracked

        return after


class _Kept:
    """Counts what autograd keeps for the backward pass, and stops before memory runs out."""

    def __init__(self, network: nn.Module, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        tensors = chain(network.parameters(), network.buffers())
        self._known = {tensor.untyped_storage().data_ptr() for tensor in tensors}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._known.add(storage.data_ptr())
            self._bytes += storage.nbytes()
        if self._bytes > self._limit:
            raise DeviceError(
                f"the backward pass of this network keeps more than {self._limit / 1e9:.2g} GB",
                place="gradients",
                remedy=f"{WITHOUT} Or take fewer or smaller images.",
            )
        return tensor


def _one_scene(network: nn.Module, run: Run, value: Any, losses: Losses, state: _State, kept: _Kept) -> None:
    with saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        found = losses(run(network, value), state.scene)
    wanted = {task: loss for task, loss in found.items() if loss.requires_grad}
    if not wanted:
        raise RecipeError(
            "no output depends on the watched layers in a way that gradients can follow",
            place="gradients",
            remedy=WITHOUT,
        )
    last = list(wanted)[-1]
    for task, loss in wanted.items():
        state.task = task
        loss.backward(retain_graph=task != last)


def _without_gradients(network: nn.Module) -> nn.Module:
    """A copy of the module tree on the same memory, in which nothing asks for a gradient."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()
    }
    memo |= {id(buffer): buffer.detach() for buffer in network.buffers()}
    return copy.deepcopy(network, memo)


def memory_limit(network: nn.Module) -> int:
    """What a backward pass may keep: most of the memory that is free on the network's device, in bytes."""
    device = network_device(network)
    if device.type == "cuda":
        return int(SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1 << 62  # unknown: running out is told by `memory_errors`
    free = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 1 << 50)
    return int(SHARE_OF_MEMORY * free * 1024)
