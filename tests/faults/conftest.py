"""The three things every fault must show: a clear refusal, an unchanged lab, and a next good action that works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import quantlab as ql


class TinyNetwork(nn.Module):
    """Two blocks of an MLP: enough for a lab, and a forward takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24)) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


@pytest.fixture
def lab() -> Any:
    """A lab on a tiny network, with an edit behind it and one undone."""
    torch.manual_seed(0)
    inputs = [torch.randn(1, 6, 24) for _ in range(2)]
    bench = ql.Lab(TinyNetwork(), calibration=inputs, evaluation=inputs, recipe=ql.Recipe.preset("rtn"))
    bench.set("*blocks.0*", weights=8)
    bench.set("*blocks.1*", weights=3)
    bench.undo()
    return bench


def state(lab: Any) -> tuple[Any, ...]:
    """Everything of a lab that a refused action could have changed."""
    weights = [(name, value.clone()) for name, value in lab.model.state_dict().items()]
    return lab.recipe, tuple(lab.history), lab.can_undo, lab.can_redo, weights


@pytest.fixture
def refused(lab: Any) -> Callable[..., AbstractContextManager[pytest.ExceptionInfo]]:
    """``with refused("place"): ...`` asserts the three things of what happens in the block."""

    @contextmanager
    def check(*told: str) -> Iterator[pytest.ExceptionInfo]:
        *before, weights = state(lab)
        with pytest.raises(ql.QuantLabError) as caught:
            yield caught
        error = caught.value
        assert error.problem
        assert error.remedy
        assert "\n" not in str(error)
        for part in told:
            assert part in str(error)
        *after, now = state(lab)
        assert after == before
        assert all(torch.equal(old, new) for (_, old), (_, new) in zip(weights, now, strict=True))
        lab.set("*", activations=8)
        assert lab.evaluate().full_precision.outputs
        lab.undo()
        assert lab.recipe == before[0]

    return check
