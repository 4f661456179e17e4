"""The record of a measured execution: time, memory and kernels of a recipe on this machine. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True, slots=True, repr=False)
class Measurement:
    """What executing a recipe took, beside the same network in full precision, interleaved in one process.

    Times are wall-clock medians of whole forward passes of one scene, in seconds. Bytes are of memory, not of a file.

    Attributes:
        seconds: As executed.
        full_seconds: The network as it was loaded.
        mixed_seconds: In the published mixed precision (bfloat16); None where it was loaded so.
        runs: How many passes each median is of.
        fastest: The fastest pass as executed; far below the median on a machine that is busy otherwise.
        slowest: The slowest.
        bytes: Of all weights as they are executed, what kernels made of them included.
        full_bytes: Of all weights as they were loaded.
        peak_bytes: Of what a pass allocates besides, at the most; None where the system does not tell.
        full_peak_bytes: The same of the network as it was loaded.
        kernels: Kernel to how many Linears it executes.
        chosen: Linear to its kernel.
        skipped: Kernel to why it executes none or not all, of those that were passed over.
        layers: Layer to its seconds in one pass, as executed.
        full_layers: The same of the network as it was loaded.
        timed_seconds: Of the passes in which ``layers`` were timed; 0 where nobody knows.
        kinds: Kind of work (of `quantlab.engine.spent`) to its seconds in that pass; together they are all of it.
        full_kinds: The same of the network as it was loaded.
        blocks: Block to its seconds, as executed.
        simulated: Layer to why no kernel multiplies its integers.
        errors: Output to ||y_hat - y|| / ||y|| of what was executed against the network as it was loaded.
        attention: What computes the attention.
        compute: Dtype of everything that is not quantized.
        threads: That torch was given.
        machine: Its processor (or GPU).
        date: When, in UTC, as ISO 8601 without fractions.
        scene: Which.
        lowered: The same with bfloat16 between the quantized layers; None where nobody asked for it.
        ratios: How many times as fast as the network as it was loaded, round by round: what else a machine does slows
            both of a round alike. Of processor time where there is one thread, else of the time on the wall.
    """

    seconds: float
    full_seconds: float
    mixed_seconds: float | None
    runs: int
    bytes: int
    full_bytes: int
    fastest: float = 0.0
    slowest: float = 0.0
    peak_bytes: int | None = None
    full_peak_bytes: int | None = None
    kernels: Mapping[str, int] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, float] = field(default_factory=dict)
    full_layers: Mapping[str, float] = field(default_factory=dict)
    timed_seconds: float = 0.0
    kinds: Mapping[str, float] = field(default_factory=dict)
    full_kinds: Mapping[str, float] = field(default_factory=dict)
    blocks: Mapping[str, float] = field(default_factory=dict)
    simulated: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    attention: str = ""
    compute: str = "float32"
    threads: int = 1
    machine: str = ""
    date: str = ""
    scene: str = ""
    lowered: Measurement | None = None
    ratios: tuple[float, ...] = ()

    @property
    def faster(self) -> float:
        """How many times as fast as the network as it was loaded: the median of the rounds."""
        return median(self.ratios) if self.ratios else self.full_seconds / self.seconds

    @property
    def between(self) -> tuple[float, float]:
        """The quartiles of `faster` over the rounds; both are `faster` where there was one round."""
        if len(self.ratios) < 2:
            return self.faster, self.faster
        low, _, high = quantiles(self.ratios, n=4, method="inclusive")
        return low, high

    @property
    def shares(self) -> dict[str, float]:
        """Layer to the part of a pass it takes, 0 to 1."""
        whole = self.timed_seconds or self.seconds
        return {name: taken / whole for name, taken in self.layers.items()}

    def __repr__(self) -> str:
        kernels = ", ".join(f"{name} x {count}" for name, count in self.kernels.items()) or "no kernel"
        megabytes = f"{self.bytes / 1e6:.4g} of {self.full_bytes / 1e6:.4g} MB"
        speed = f"{self.faster:.2g} times as fast as full precision"
        return f"Measurement({1e3 * self.seconds:.3g} ms, {speed}, {megabytes}, {kernels})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the field names as keys."""
        return asdict(self)
