"""Execution of a compensated branch: two wrappers that add a low-rank term to its output. They fit nothing."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from quantlab.methods.compensation import Correction


class Tap:
    """Carries a branch's residual-stream input from its first module to its last; empty between calls."""

    def __init__(self) -> None:
        self.x: Tensor | None = None

    def take(self) -> Tensor | None:
        """The input, which is forgotten here so that no activation outlives the branch."""
        x, self.x = self.x, None
        return x


class Wrapper(nn.Module):
    """Stands in for a module: names inside it and its attributes are reached as before."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


class TappedInput(Wrapper):
    """The first module of a branch (its norm); notes what comes in."""

    def __init__(self, inner: nn.Module, tap: Tap) -> None:
        super().__init__(inner)
        self.tap = tap

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the wrapped module returns."""
        self.tap.x = x
        return self.inner(x, *args, **kwargs)


class CompensatedOutput(Wrapper):
    """The last module of a branch (its gain, or the branch itself); adds the correction to what comes out."""

    def __init__(self, inner: nn.Module, tap: Tap, correction: Correction) -> None:
        super().__init__(inner)
        self.tap = tap
        for name in ("down", "up", "bias"):
            self.register_buffer(f"correction_{name}", getattr(correction, name))

    @property
    def correction(self) -> Correction:
        """The low-rank term."""
        buffers = self._buffers
        down, up, bias = (buffers[f"correction_{name}"] for name in ("down", "up", "bias"))
        if down is None or up is None or bias is None:
            raise RuntimeError("a correction cannot be removed from its wrapper")
        return Correction(down, up, bias)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The wrapped module's output (the first entry of a tuple) plus the correction of the branch's input."""
        output = self.inner(x, *args, **kwargs)
        noted = self.tap.take()
        return corrected(output, self.correction(x if noted is None else noted))


def corrected(output: Any, addend: Tensor) -> Any:
    """``output + addend``, in the dtype of the output; of a tuple the first entry is meant."""
    if isinstance(output, tuple):
        return (output[0] + addend.to(output[0].dtype), *output[1:])
    return output + addend.to(output.dtype)
