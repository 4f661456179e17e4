"""What a GPU is asked: whether it has finished, how much memory a call took, which attention ran. It makes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from quantlab.bench.speed.clock import Clock, Run
from quantlab.bench.speed.plan import CPU
from quantlab.models import layers

NAMES: Mapping[SDPBackend, str] = {
    SDPBackend.FLASH_ATTENTION: "FlashAttention",
    SDPBackend.CUDNN_ATTENTION: "cuDNN attention",
    SDPBackend.EFFICIENT_ATTENTION: "memory-efficient attention",
    SDPBackend.MATH: "plain attention",
}
FLASH_FIRST = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""The others are for what FlashAttention does not take: float32."""


def clock_of(device: str) -> Clock:
    """Where time is read: on a GPU the wall, when it has done what it was told."""
    if device == CPU:
        return Clock()

    def wall() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return Clock(wall=wall)


def flash_first(run: Run) -> Run:
    """The same with FlashAttention wherever it takes the numbers."""

    def call() -> object:
        with sdpa_kernel(FLASH_FIRST, set_priority=True):
            return run()

    return call


def attentions(run: Run) -> dict[str, int]:
    """How often a run called each of torch's attentions, by the name a person knows it by."""
    with _counted() as found:
        run()
    return dict(found.most_common())


def working_bytes(run: Run) -> int:
    """The most that a run holds on the GPU beside what lay there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Torch is asked which it would take, as it asks itself; autocast narrows its arguments before."""
    usual, found = layers.scaled_dot_product_attention, Counter[str]()

    def counting(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        kind, given = query.device.type, (query, key, value)
        if torch.is_autocast_enabled(kind):
            given = tuple(part.to(torch.get_autocast_dtype(kind)) for part in given)  # type: ignore[assignment]
        chosen = SDPBackend(torch._fused_sdp_choice(*given))  # noqa: SLF001 - torch says it nowhere else
        found[NAMES.get(chosen, chosen.name.lower())] += 1
        return usual(query, key, value)

    layers.scaled_dot_product_attention = counting
    try:
        yield found
    finally:
        layers.scaled_dot_product_attention = usual
