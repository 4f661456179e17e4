"""The record of what every layer saw: tails, histograms, maxima of inputs and weights. No torch; measures nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab.numerics.records import Histogram

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}
"""Field of `TokenStats` to the quantile of |x| it holds."""
ALL = "all"
"""The key of the statistics over every token kind together."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenStats:
    """Statistics of a set of values x; exact, except for the quantiles, which the bins bound.

    Attributes:
        count: Number of values.
        mean: Mean of x.
        std: Standard deviation of x.
        kurtosis: Pearson's; a normal distribution has 3. 0 where all values are equal.
        max: Largest |x|.
        p50: Quantile of |x|, read from the histogram; likewise ``p90``, ``p99``, ``p999``, ``p9999``.
        max_p999: ``max / p999``, how far the tail sticks out; 0 where there is nothing but zeros.
        histogram: Counts in signed bins that grow geometrically away from zero.
    """

    count: int
    mean: float
    std: float
    kurtosis: float
    max: float
    p50: float
    p90: float
    p99: float
    p999: float
    p9999: float
    max_p999: float
    histogram: Histogram


@dataclass(frozen=True, slots=True, eq=False)
class LayerProfile:
    """What one layer saw at its input over all calibration scenes, and its weight.

    Attributes:
        name: State-dict prefix of the layer.
        kind: "qkv", "proj", "fc1", "fc2", "conv" or "other".
        stream: Where in the network: "frame", "global", "vit" ... or "".
        block: Name of its block, or "".
        index: Index of the block within its stream, or -1.
        tokens: Token kind ("camera", "register", "patch" ...) to statistics of those tokens; "all" holds every token.
        channel_max: float32 [in], largest |x| of each input channel.
        token_max: float32 [<= 4096], largest |x| of each token of the first scene (of a longer one, its first tokens).
        token_kinds: uint8 [the same], index of the token's kind in `structure.KINDS`.
        weight: Statistics of the weight.
        weight_channel_max: float32 [in], largest |w| of each input channel.
    """

    name: str
    kind: str
    stream: str
    block: str
    index: int
    tokens: Mapping[str, TokenStats]
    channel_max: NDArray[np.float32]
    token_max: NDArray[np.float32]
    token_kinds: NDArray[np.uint8]
    weight: TokenStats
    weight_channel_max: NDArray[np.float32]

    def __repr__(self) -> str:
        stats = self.all
        return (
            f"{self.name}: kurtosis {stats.kurtosis:.3g}, max {stats.max:.3g}, max/p99.9 {stats.max_p999:.3g}"
        )

    @property
    def all(self) -> TokenStats:
        """The statistics over all tokens."""
        return self.tokens[ALL]


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Every quantizable layer's profile, in execution order; a layer that never ran is absent.

    Attributes:
        layers: Layer name to its profile.
        scenes: Names of the scenes that ran.
        seconds: Time it took.
        fingerprint: Of the weights, as `quantlab.models.fingerprint` has it; "" where nobody looked.
    """

    layers: Mapping[str, LayerProfile]
    scenes: tuple[str, ...] = field(default=())
    seconds: float = 0.0
    fingerprint: str = ""

    def __repr__(self) -> str:
        return f"Profile({len(self.layers)} layers on {len(self.scenes)} scenes, {self.seconds:.1f} s)"

    def worst(self, count: int = 10, *, streams: Collection[str] | None = None) -> list[LayerProfile]:
        """The layers whose inputs have the largest kurtosis, largest first; of some ``streams``, or of all."""
        chosen = [layer for layer in self.layers.values() if streams is None or layer.stream in streams]
        return sorted(chosen, key=lambda layer: -layer.all.kurtosis)[:count]

    def save(self, path: str | Path) -> None:
        """Write it to a .npz file; see `quantlab.calibration.profile_file`."""
        from quantlab.calibration.profile_file import save_profile

        save_profile(self, path)

    @staticmethod
    def load(path: str | Path) -> Profile:
        """Read it back.

        Raises:
            StorageError: The file is absent, damaged, or no profile.
        """
        from quantlab.calibration.profile_file import load_profile

        return load_profile(path)
