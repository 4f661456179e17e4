"""The record of a diagnosis: how much each layer and branch suffers under a recipe. No torch; it measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Tail-relative errors (TRE), means over the calibration scenes.

    TRE = sum over T of (y - y_hat)^2 / (sum over T of y^2 + 1e-8), T being the ``fraction`` of output entries with the
    largest magnitude at full precision. A layer or branch that the recipe leaves alone has 0.

    Attributes:
        layers: Layer name to TRE, each layer quantized alone on its full-precision input.
        branches: Branch name to TRE, each branch quantized alone on its full-precision input.
        trajectory_branches: Branch name to TRE with the inputs that the quantized blocks before it produce; None where
            it was not asked for.
        fraction: Share of entries in T (rho).
        scenes: Names of the scenes averaged over.
        seconds: Time it took.

    Source:
        TAPTQ (arXiv:2602.01741).
    """

    layers: Mapping[str, float]
    branches: Mapping[str, float]
    trajectory_branches: Mapping[str, float] | None = None
    fraction: float = 0.01
    scenes: tuple[str, ...] = field(default=())
    seconds: float = 0.0

    def worst_layers(self, count: int = 10) -> list[tuple[str, float]]:
        """The layers with the largest TRE, largest first."""
        return _worst(self.layers, count)

    def worst_branches(self, count: int = 10) -> list[tuple[str, float]]:
        """The branches with the largest TRE, largest first."""
        return _worst(self.branches, count)


def _worst(errors: Mapping[str, float], count: int) -> list[tuple[str, float]]:
    return sorted(errors.items(), key=lambda entry: (-entry[1], entry[0]))[:count]
