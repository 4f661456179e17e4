"""Who takes part in the speed bench: ways to compute the same thing, by device. Data only; it loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from quantlab.bench.speed.plan import CPU, Group


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to compute the same thing.

    Attributes:
        name: In tables and on the command line.
        maker: "stock", "best", "quantized", or a key of `quantlab.bench.speed.peers.PEERS`.
        levels: Where it takes part.
        settings: Of a quantized one: those of a recipe's layers.
        kernel: Likewise; one of `quantlab.kernels.table.KERNELS`, or "auto".
        attention: "auto", or one of `quantlab.kernels.attention.ATTENTIONS`; of a stock network on a GPU also `FLASH`.
        compute: "float32" or "bfloat16": the arithmetic between the layers.
        largest: Tokens of a linear or block, or frames, up to which it takes part; 0: any. The whole table is to take
            half an hour.
        help: What a reader must know.
    """

    name: str
    maker: str
    levels: tuple[str, ...]
    help: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    kernel: str = "auto"
    attention: str = "auto"
    compute: str = "float32"
    largest: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What decides what is measured."""
        return asdict(self)


EVERY = ("linear", "block", "forward")
SMALL = ("linear", "block")
ABOVE = ("block", "forward")
MEMORY = ("memory",)
STREAM = " (bfloat16)"
"""Ends the names of variants that compute in bfloat16 between the layers as well."""
STOCK, HALF, BEST = "float32", "bfloat16", "bfloat16 best"
W8A8: Mapping[str, Any] = {"weights": 8, "activations": 8}
W4A8: Mapping[str, Any] = {"weights": 4, "activations": 8}
G128: Mapping[str, Any] = {**W4A8, "weight_granularity": "group", "group_size": 0}
W4A16: Mapping[str, Any] = {**G128, "activations": 16}
STATIC: Mapping[str, Any] = {**W8A8, "activation_mode": "static", "activation_granularity": "tensor"}
MIXED: Mapping[str, Any] = {**W8A8, "rotation": "hadamard", "smoothing": 0.5}
ROTATED = "rotated and smoothed"


def _ours(
    name: str, settings: Mapping[str, Any], levels: tuple[str, ...], **more: Any
) -> Iterable[Contender]:
    """With a float32 residual stream, and with one in bfloat16, which alone runs whole networks (but for one)."""
    help_ = more.pop("help", "")
    small = levels if name == "W8A8" else tuple(level for level in levels if level in SMALL)
    yield Contender(name, "quantized", small, help_, settings, **more)
    yield Contender(f"{name}{STREAM}", "quantized", levels, "", settings, compute=HALF, **more)


CONTENDERS: tuple[Contender, ...] = (
    Contender(STOCK, "stock", (*EVERY, *MEMORY), "torch as it is"),
    Contender(
        HALF, "stock", EVERY, "the published mixed precision, matrices stored in bfloat16", compute=HALF
    ),
    Contender(BEST, "best", ABOVE, "bfloat16 throughout, with the fastest attention", compute=HALF),
    *_ours("W8A8", W8A8, EVERY, help="the kernel that is fastest here"),
    *_ours("W4A8 g128", G128, EVERY, help="likewise, a weight scale for every 128 columns"),
    *_ours("W4A8", W4A8, SMALL, help="likewise, a weight scale for every output channel"),
    *_ours("W8A8 static", STATIC, SMALL, help="activation scales fixed by calibration, one a tensor"),
    Contender(
        f"W8A8 {ROTATED}{STREAM}",
        "quantized",
        EVERY,
        "a random Hadamard rotation and smoothing before every product",
        MIXED,
        compute=HALF,
    ),
    *_ours("W8A8 native", W8A8, SMALL, kernel="native"),
    *_ours(
        "W8A8 torch only",
        W8A8,
        EVERY,
        kernel="onednn",
        attention="torch",
        help="nothing but torch: its oneDNN products, its attention",
    ),
    *_ours("W8A8 zentorch", W8A8, SMALL, kernel="zentorch", attention="zentorch"),
    Contender("torchao W8A8", "torchao", SMALL, "dynamic, per token and channel, eager", largest=1374),
    Contender(
        "torchao W8A8 compiled", "torchao_compiled", ("block",), "by torch.compile, frozen", largest=1374
    ),
    Contender(
        f"torchao W8A8 compiled{STREAM}", "torchao_compiled", ("block",), "", compute=HALF, largest=1374
    ),
    Contender("onnxruntime W8A8", "onnxruntime", SMALL, "dynamic, QInt8"),
    Contender("OpenVINO W8A8 static", "openvino_static", SMALL, "by nncf"),
    Contender("OpenVINO int8", "openvino_int8", SMALL, "int8 weights; activations as it chooses"),
    Contender("OpenVINO int4 g128", "openvino_int4", SMALL, "int4 weights; activations as it chooses"),
    Contender("packed W4A8 g128", "packed", MEMORY, "as `Lab.export` writes it", G128, compute=HALF),
    Contender(
        "packed W4A8",
        "packed",
        MEMORY,
        "likewise, a weight scale for every output channel",
        W4A8,
        compute=HALF,
    ),
)
FLASH = "flash"
"""FlashAttention wherever it takes the numbers."""


def _on_gpu(name: str, maker: str, help_: str, **more: Any) -> Contender:
    """In bfloat16 throughout, as is everything that is fast on a GPU."""
    return Contender(f"{name}{STREAM}", maker, ("forward",), help_, compute=HALF, **more)


GPU_CONTENDERS: tuple[Contender, ...] = (
    Contender(STOCK, "stock", ("forward", *MEMORY), "torch as it is"),
    Contender(
        HALF,
        "stock",
        ("forward",),
        "the published mixed precision, matrices stored in bfloat16, FlashAttention wherever it takes the numbers",
        compute=HALF,
        attention=FLASH,
    ),
    Contender(BEST, "best", ("forward",), "bfloat16 throughout, attention as torch chooses", compute=HALF),
    _on_gpu("W8A8 int_mm", "quantized", "products of integers by torch", settings=W8A8, kernel="int_mm"),
    _on_gpu(
        "W8A8 fp8", "quantized", "8-bit floating point in place of integers", settings=W8A8, kernel="fp8"
    ),
    _on_gpu("W4A16 g128", "quantized", "4-bit weights, the kernel that is fastest here", settings=W4A16),
    _on_gpu(
        "W4A16 g128 int4_mm", "quantized", "likewise, by torch's product", settings=W4A16, kernel="int4_mm"
    ),
    _on_gpu("torchao W8A8", "torchao_int8", "dynamic, per token and channel, eager"),
    _on_gpu("torchao float8", "torchao_float8", "likewise, dynamic, per token and channel, eager"),
    _on_gpu("torchao int4 g128", "torchao_int4", "4-bit weights, eager"),
    Contender(
        "packed W4A16 g128",
        "packed",
        MEMORY,
        "as `Lab.export` writes it",
        W4A16,
        kernel="int4_mm",
        compute=HALF,
    ),
)
PEERS = ("torchao", "onnxruntime", "openvino", "zentorch")


def contenders(
    group: Group, *, rows: Sequence[str] = (), peers: Sequence[str] | None = None
) -> list[Contender]:
    """Those that take part in a group, in the order of the table; the stock ones in any case.

    Args:
        group: What is measured.
        rows: Only those whose name begins with one of these; all without any.
        peers: Only these of `PEERS`; None: all.
    """
    found, level = [], "forward" if group.whole else group.level
    for contender in offered(group.device):
        own = peer_of(contender)
        asked = contender.maker in ("stock", "best") or not rows or contender.name.startswith(tuple(rows))
        fits = level in contender.levels and group.size <= (contender.largest or group.size)
        if fits and asked and (peers is None or not own or own in peers):
            found.append(contender)
    return found


def offered(device: str) -> tuple[Contender, ...]:
    """Everybody who takes part there, in the order of the table."""
    return CONTENDERS if device == CPU else GPU_CONTENDERS


def peer_of(contender: Contender) -> str:
    """Which of `PEERS` it needs; empty for none."""
    wanted = (contender.maker, contender.kernel)
    return next((peer for peer in PEERS if any(name.startswith(peer) for name in wanted)), "")
