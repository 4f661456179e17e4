"""Chooses each block's scale exponent by the network's result. The scales are `quantlab.methods.task_scales`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quantlab.engine.task_loss import TaskLoss
from quantlab.jobs import Job, part
from quantlab.methods.task_scales import EXPONENTS

Measure = Callable[[float, Job | None], TaskLoss]
"""``measure(exponent, job)`` is the loss with one block quantized at this exponent."""


@dataclass(frozen=True, slots=True)
class ScaleChoice:
    """The exponent of one block.

    Attributes:
        exponent: The chosen one.
        losses: Of every candidate.
    """

    exponent: float
    losses: Mapping[float, TaskLoss]


def choose_exponent(measure: Measure, job: Job | None = None) -> ScaleChoice:
    """Try all candidates and take the one of the smallest loss; of equal ones the smallest, which changes least.

    Terms of the loss are summed in units of what they are at exponent 0, plain rounding: the task's own terms are a
    tenth of the block's reconstruction error in size, and would have no say otherwise (our reading).
    One exponent serves all layers of a block, and each block is judged with all others in full precision (our
    reading): so the choices do not depend on an order, and undo finds them again.

    Source:
        QVGGT (arXiv:2605.31124), task-aware scale search.
    """
    losses = {
        exponent: measure(exponent, part(job, index, len(EXPONENTS)))
        for index, exponent in enumerate(EXPONENTS)
    }
    plain = losses[EXPONENTS[0]]
    return ScaleChoice(min(EXPONENTS, key=lambda exponent: losses[exponent].relative_to(plain)), losses)
