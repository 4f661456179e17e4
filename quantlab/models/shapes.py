"""Building a network for its names and shapes alone, without the seconds that torch takes to draw numbers nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MADE = (torch.randn, torch.zeros, torch.full)
_KEEP_SHAPE = (Tensor.mul, Tensor.__mul__, Tensor.uniform_)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Tensors made in the block are on the meta device, where their values do not matter.

    On that device torch draws random numbers and multiplies by Python code that first imports its compiler (4 s).
    """
    with torch.device("meta"), _ShapesOnly():
        yield


class _ShapesOnly(TorchFunctionMode):
    """Answers what would compute a value with a tensor of the same shape."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        on_cpu = str(given.get("device", "meta")) != "meta"
        if func in _MADE and not on_cpu:
            sizes = args[:1] if func is torch.full else args
            return torch.empty(*sizes, dtype=given.get("dtype"))
        if func in _KEEP_SHAPE and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **given)
