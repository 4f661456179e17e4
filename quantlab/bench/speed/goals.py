"""What the bench is to show: goals, and how far each is met by what was measured. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantlab.bench.speed.contenders import BEST, HALF, ROTATED, STOCK, STREAM
from quantlab.bench.speed.plan import CPU
from quantlab.bench.speed.records import Record

SHAPES = "vggt-1b"
AO = ("torchao W8A8", "torchao W8A8 compiled", f"torchao W8A8 compiled{STREAM}")
OV = ("OpenVINO W8A8 static",)
OURS = (f"W8A8{STREAM}", "W8A8", f"W8A8 static{STREAM}", "W8A8 static")
TORCH_ONLY = (f"W8A8 torch only{STREAM}", "W8A8 torch only")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal beside what was measured.

    Attributes:
        goal: For a person.
        threads: Of the measurement; None where they do not matter, as on a GPU.
        measured: Text; a dash where nothing was.
        outcome: "met", "missed by 12 %", or why nothing was measured.
    """

    goal: str
    threads: int | None
    measured: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """At least so many times faster than others; each side is represented by the fastest of its names."""

    text: str
    level: str
    size: int
    ours: tuple[str, ...]
    others: tuple[str, ...]
    least: float

    def verdicts(self, records: Sequence[Record]) -> list[Verdict]:
        """One for each number of threads that was measured."""
        found = [r for r in records if (r.group.level, r.group.size) == (self.level, self.size)]
        found.sort(key=lambda record: record.group.threads)
        return [self._verdict(record) for record in found] or [Verdict(self.text, None, "–", "not measured")]

    def _verdict(self, record: Record) -> Verdict:
        mine, theirs = fastest(record, self.ours), fastest(record, self.others)
        threads = record.group.threads if record.group.device == CPU else None
        value = record.speedup(mine, theirs) if mine and theirs else None
        if value is None:
            absent = self.ours if not mine else self.others
            return Verdict(self.text, threads, "–", f"nothing measured of {', '.join(absent)}")
        shown = f"{value:.2f}x ({mine} over {theirs})"
        return Verdict(self.text, threads, shown, outcome(value / self.least))


@dataclass(frozen=True, slots=True)
class Most:
    """At most so much of a fact of a row of the memory table; with ``share_of``, as a share of another fact."""

    text: str
    row: str
    fact: str
    most: float
    unit: float = 1e6
    share_of: str = ""

    def verdicts(self, records: Sequence[Record]) -> list[Verdict]:
        """One."""
        line = next((r.line(self.row) for r in records if r.group.level == "memory"), None)
        if line is None or not line.facts:
            return [Verdict(self.text, None, "–", line.timing.reason if line is not None else "not measured")]
        value = float(line.facts[self.fact])
        value = value / float(line.facts[self.share_of]) if self.share_of else value / self.unit
        shown = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        return [Verdict(self.text, None, shown, outcome(self.most / value if value > 0 else 1.0))]


def fastest(record: Record, names: Sequence[str]) -> str:
    """The one that took the least time; empty where none was measured."""
    wall = record.group.wall
    seconds = {
        name: taken
        for name in names
        if (line := record.line(name)) is not None and (taken := line.timing.seconds(wall=wall)) is not None
    }
    return min(seconds, key=lambda name: seconds[name], default="")


def outcome(share: float) -> str:
    """Met, where what was reached is at least the goal; else by how much it was missed."""
    return "met" if share >= 1 else f"missed by {100 * (1 - share):.0f} %"


def _over(ours: Sequence[str], what: str, level: str, size: int, least: Mapping[str, float]) -> list[Ratio]:
    names = {STOCK: "stock float32", HALF: "stock bfloat16", BEST: "the best bfloat16"}
    return [
        Ratio(f"{what}: at least {value:g}x {names[other]}", level, size, tuple(ours), (other,), value)
        for other, value in least.items()
    ]


PACKED = "packed W4A8 g128"
GOALS: tuple[Ratio | Most, ...] = (
    *_over(
        (f"W8A8{STREAM}",), "W8A8 whole forward, 2 frames", "forward", 2, {STOCK: 5, HALF: 2.5, BEST: 1.5}
    ),
    *_over(
        (f"W4A8 g128{STREAM}",),
        "W4A8 whole forward, 2 frames",
        "forward",
        2,
        {STOCK: 4.7, HALF: 2.2, BEST: 1.35},
    ),
    Ratio("W8A8 block, 1374 tokens: at least 2x torchao", "block", 1374, OURS, AO, 2.0),
    Ratio("W8A8 block, 1374 tokens: level with OpenVINO static W8A8", "block", 1374, OURS, OV, 1.0),
    *_over(TORCH_ONLY, "torch only, whole forward, 2 frames", "forward", 2, {STOCK: 3, HALF: 1.3}),
    *(
        Ratio(
            f"rotation and smoothing cost at most 5 % ({level} of {size})",
            level,
            size,
            (f"W8A8 {ROTATED}{STREAM}",),
            (f"W8A8{STREAM}",),
            1 / 1.05,
        )
        for level, size in (("block", 1374), ("forward", 2))
    ),
    Most("W4 whole model with tracker on disk: at most 680 MB", PACKED, "disk_bytes", 680),
    Most("W4 whole model with tracker in memory: at most 680 MB", PACKED, "weights_bytes", 680),
    Most("peak RSS of W4A8, 2 frames: at most 1600 MB", PACKED, "peak_bytes", 1600),
    Most("loading the packed checkpoint: at most 3 s", PACKED, "load_seconds", 3, unit=1.0),
    Most(
        "anonymous memory before the first forward: at most 0.2 of its size",
        PACKED,
        "anonymous_bytes",
        0.2,
        share_of="disk_bytes",
    ),
)
GPU_PACKED = "packed W4A16 g128"
GPU_GOALS: tuple[Ratio | Most, ...] = (
    *(
        Ratio(
            f"W8A8 by fp8 or int8, whole forward, {frames} frames: faster than {what}",
            "forward",
            frames,
            (f"W8A8 fp8{STREAM}", f"W8A8 int_mm{STREAM}"),
            (other,),
            1.0,
        )
        for frames in (8, 16)
        for other, what in ((HALF, "bfloat16 with FlashAttention"), (BEST, "the best bfloat16"))
    ),
    Most("W4 whole model with tracker on disk: at most 680 MB", GPU_PACKED, "disk_bytes", 680),
    Most("W4 whole model with tracker on the GPU: at most 680 MB", GPU_PACKED, "weights_bytes", 680),
)


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """Every goal of the device, where the released sizes were measured whole."""
    whole = [record for record in records if record.group.shapes == SHAPES and not record.group.depth]
    goals = GOALS if all(record.group.device == CPU for record in whole) else GPU_GOALS
    return [verdict for goal in goals for verdict in goal.verdicts(whole)] if whole else []
