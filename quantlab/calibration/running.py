"""Runs a network under watch: progress and cancellation block by block, memory errors in words. No output changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from quantlab.errors import DeviceError, NumericError
from quantlab.jobs import Job
from quantlab.models.structure import Structure
from quantlab.numerics.finite import require_finite

Hook = Callable[..., Any]
Hooks = Iterable[tuple[str, Hook]]


@contextmanager
def hooked(network: nn.Module, before: Hooks = (), after: Hooks = ()) -> Iterator[None]:
    """Hook submodules by name, and always remove the hooks: after errors and interrupts of any kind too.

    Args:
        network: The module that the names belong to; "" is itself.
        before: (name, ``hook(module, args, kwargs)``), called before the module runs.
        after: (name, ``hook(module, args, kwargs, output)``), called after it ran.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    with ExitStack() as stack:
        for name, hook in before:
            handle = modules[name].register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        for name, hook in after:
            handle = modules[name].register_forward_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield


@contextmanager
def watched(network: nn.Module, structure: Structure, job: Job | None, text: str = "") -> Iterator[None]:
    """Let ``job`` follow one forward pass: cancellation before and after every layer, progress before every block."""
    if job is None:
        yield
        return
    blocks = list(structure.blocks)
    seen: set[str] = set()

    def check(*_: object) -> None:
        job.check()

    def progress(name: str) -> Hook:
        def report(*_: object) -> None:
            job.check()
            seen.add(name)
            job.report(len(seen) - 1, len(blocks), f"{text}, {name}" if text else name)

        return report

    layers = [(name, check) for name in present(network, structure.layers)]
    # After a layer too: a head's last convolution and the resizing behind it are each a good part of a second.
    with hooked(network, [*layers, *((name, progress(name)) for name in present(network, blocks))], layers):
        yield


@contextmanager
def memory_errors(what: str, inputs: object = None) -> Iterator[None]:
    """Turn running out of memory into an error with sizes and a remedy; what was allocated is given back.

    Raises:
        DeviceError: In place of torch's and Python's out-of-memory errors.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = str(error).splitlines()[0] if str(error) else "no memory left"
    else:
        return
    # Outside the handler, so that the frames of the failed forward, and their tensors, are already gone.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise DeviceError(
        f"{what} ran out of memory: {message}",
        place=shapes_in_words(inputs),
        remedy="Use fewer or smaller images, or bfloat16, or another device.",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that host or device memory ran out; torch has no common type for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "not enough memory" in text
    )


def shapes_in_words(inputs: object) -> str:
    """The shapes of all tensors in ``inputs``, for messages."""
    found = [list(leaf.shape) for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    return "input of shape " + ", ".join(map(str, found)) if found else ""


def require_finite_run(network: nn.Module, structure: Structure, run: Callable[[], Any]) -> None:
    """Run again and name the first layer that received or made a NaN or an infinity.

    Raises:
        NumericError: Its place is the layer; no error where every layer is clean.
    """

    def entering(name: str) -> Hook:
        def check(_module: nn.Module, args: object, kwargs: object) -> None:
            _require_finite((args, kwargs), f"input of {name}")

        return check

    def leaving(name: str) -> Hook:
        def check(_module: nn.Module, _args: object, _kwargs: object, output: object) -> None:
            _require_finite(output, f"output of {name}")

        return check

    names = present(network, structure.layers)
    before, after = [(n, entering(n)) for n in names], [(n, leaving(n)) for n in names]
    with hooked(network, before, after), torch.no_grad():
        run()


def all_finite(outputs: object) -> bool:
    """Whether no floating tensor in a nested output holds a NaN or an infinity."""
    try:
        _require_finite(outputs, "")
    except NumericError:
        return False
    return True


def _require_finite(values: object, place: str) -> None:
    for leaf in pytree.tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            require_finite(leaf, place=place)


def present(network: nn.Module, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are submodules of ``network``, in their order."""
    known = {name for name, _ in network.named_modules(remove_duplicate=False)}
    return [name for name in names if name in known]


def network_device(network: nn.Module) -> torch.device:
    """Where the first parameter lies; the CPU for a network without any."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def scene_name(names: Sequence[str], index: int) -> str:
    """The name of a scene, or its number where names were not given."""
    return names[index] if index < len(names) else f"scene {index + 1}"
