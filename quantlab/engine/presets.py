"""The named starting points of a recipe: the settings each published method stands for, and what to know of it.

Data only. What the settings do is said where they are carried out, in `quantlab.methods`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from quantlab.engine.preset import PRESETS, Preset

__all__ = ["PRESETS", "Preset"]

NONE = "No calibration."
PASS = "One pass over the calibration scenes."  # noqa: S105 - no password
WALK = "A walk over the calibration scenes from block to block."
LEARN = "Learns block by block: the longest of all, resumable and cancellable."


def _add(name: str, settings: Mapping[str, Any], **about: Any) -> None:
    enter: Callable[[Preset], Preset] = PRESETS.register(name)
    enter(Preset(settings, **about))


_add(
    "full_precision",
    {},
    label="Full precision",
    usual=(16, 16),
    help="Nothing is rounded: the network as it was loaded.",
    formula="y = x Wᵀ",
    paper="",
    arxiv="",
    cost=NONE,
    only="none",
)
_add(
    "rtn",
    {},
    label="Round to nearest",
    help="Round to nearest: weights per output channel, activations per token with a scale of its own.",
    formula="Q(x) = s · clamp(round(x / s)),  s = max|x| / (2ᵇ⁻¹ − 1)",
    paper="Integer-arithmetic-only inference",
    arxiv="1712.05877",
    cost=NONE,
    file="rounding.py",
)
_add(
    "smoothquant",
    {"smoothing": 0.5},
    help="Large input channels are divided down and the weight takes the factor.",
    formula="y = Q(x / c) Q(c W)ᵀ,  c = max|x|ᵃ / max|W|¹⁻ᵃ,  a = 0.5",
    paper="SmoothQuant",
    arxiv="2211.10438",
    cost=PASS,
    file="smoothing.py",
)
_add(
    "quarot",
    {"rotation": "hadamard"},
    help="A random Hadamard rotation spreads outliers over all channels.",
    formula="y = Q(x H) Q(W H)ᵀ,  H = diag(±1) Hₙ / √n",
    paper="QuaRot",
    arxiv="2404.00456",
    cost=NONE,
    reading="Applied to each layer's input while running, not folded into the layers before it.",
    file="rotation.py",
)
_add(
    "gptq",
    {"rounding": "gptq", "column_order": "activation"},
    help="Weights are rounded column by column; the error of each is made good by the columns that follow.",
    formula="δW = −(w_q − Q(w_q)) / [H⁻¹]_qq · H⁻¹_q,:   H = 2 XᵀX + λ I",
    paper="GPTQ",
    arxiv="2210.17323",
    cost=WALK,
    reading="Activations are rounded to nearest; each layer sees full-precision inputs.",
    file="gptq.py",
)
_add(
    "awq",
    {"smoothing": 0.5, "smoothing_rule": "awq", "weight_granularity": "group", "group_size": 0},
    usual=(4, 16),
    help="Salient input channels are scaled up in the weight before it is rounded; how far is searched.",
    formula="min over a of ‖Q(W diag s) diag(s)⁻¹ X − W X‖,  s = mean|X|ᵃ",
    paper="AWQ",
    arxiv="2306.00978",
    cost=PASS,
    reading="Made for weights alone (W4A16); with rounded activations the search sees them rounded.",
    file="awq.py",
)
_add(
    "svdquant",
    {"smoothing": 0.5, "low_rank": 16},
    help="After smoothing, the weight's largest directions go into a 16-bit branch; only the rest is rounded.",
    formula="y = x̂ L₁L₂ + Q(x̂) Q(R)ᵀ,  ĉW = (L₁L₂)ᵀ + R",
    paper="SVDQuant",
    arxiv="2411.05007",
    cost=PASS,
    reading="Rank 16, for widths from 192 to 4096; the paper takes 32 at widths around 3000.",
    file="low_rank.py",
)
_add(
    "smoothrot",
    {"smoothing": 0.5, "smoothing_order": "before", "rotation": "hadamard"},
    help="Scale first, then rotate: the opposite order to QuantVGGT.",
    formula="y = Q(x / c · H) Q(c W H)ᵀ",
    paper="SmoothRot",
    arxiv="2506.05413",
    cost=PASS,
    file="smoothing.py",
)
_add(
    "convrot",
    {"rotation": "regular"},
    help="Groups of channels are rotated by a regular Hadamard matrix, whose rows all have the same sum.",
    formula="y = Q(x R) Q(W R)ᵀ,  R = diag(H₄⊗…⊗H₄),  H₄ 1 = 1",
    paper="ConvRot",
    arxiv="2512.03673",
    cost=NONE,
    reading="The largest group of 4, 16, 64 or 256 channels that divides the width.",
    file="regular_hadamard.py",
)
_add(
    "clq",
    {
        "rotation": "block_hadamard",
        "smoothing": 0.5,
        "smoothing_rule": "search",
        "smoothing_order": "before",
        "inputs": "quantized",
    },
    help="Each block is calibrated on what the quantized blocks before it produce; rotation by outlier score.",
    formula="y = Q(x / c · P B) Q(c W P B)ᵀ,  a searched,  x from the quantized network",
    paper="CLQ",
    arxiv="2509.24416",
    cost=WALK,
    reading="How channels are dealt over the Hadamard blocks, the searched parameter (the smoothing exponent), and"
    " that smoothing comes first are ours.",
    file="block_hadamard.py",
)
_add(
    "qwt",
    {"compensation": "on", "rank": 4096},
    help="Round to nearest, then a linear correction of every branch in closed form.",
    formula="ŷ + x W* + b*,  (W*, b*) = least squares of y − ŷ on x",
    paper="QwT",
    arxiv="2411.13918",
    cost=WALK,
    reading="One correction for each attention and each MLP branch, where the paper takes one a block.",
    file="compensation.py",
)
_add(
    "rotatekv",
    {"kv_rotation": "hadamard", "kv_protect": True},
    usual=(16, 4),
    help="Keys and values of the attention over all frames are rotated by groups of heads and rounded; layers stay"
    " exact.",
    formula="softmax(q · RoPE(Q(k H) Hᵀ)ᵀ) Q(v H) Hᵀ",
    paper="RotateKV",
    arxiv="2501.16383",
    cost=NONE,
    reading="Camera and register tokens take the part of the paper's sink tokens and stay exact.",
    file="kv.py",
    only="kv",
)
_add(
    "quantvggt",
    {
        "rotation": "hadamard",
        "smoothing": 0.5,
        "smoothing_order": "after",
        "reconstruction": "block",
    },
    help="Rotate, smooth with the rotated weight, then learn scales and clipping block by block.",
    formula="y = Q(x H / c) Q(c W H)ᵀ,  c and clipping from min ‖B(x) − Q(B)(x)‖², B a block",
    paper="QuantVGGT",
    arxiv="2509.21302",
    cost=LEARN,
    reading="Random signs before the mixing; the rotated weight in c; all samples count alike; blocks see the true"
    " layout over all frames. The published code differs in each.",
    file="reconstruction.py",
    calibration={"method": "nfds", "scenes": 16},
)
_TAPTQ = {
    "range_search": "ternary",
    "search_loss": "fisher",
    "twin": True,
    "compensation": "auto",
    "tre_fraction": 0.1,
}
_add(
    "taptq",
    _TAPTQ,
    help="Ranges by ternary search on the task's own loss, two scales behind a GELU, and a low-rank correction of"
    " branches whose largest outputs suffer.",
    formula="min over Δ of mean[(g (o − ô(Δ)))²];  + x A B + b  where  TRE ≥ 0.007",
    paper="TAPTQ",
    arxiv="2602.01741",
    cost="One pass forward and one back over the calibration scenes, then a walk for the corrections.",
    reading="g is the gradient of the distance to the full-precision result, taken at the rounded network. Scales"
    " of activations are taken from each token.",
    file="clipping.py",
    calibration={"method": "coarse_to_fine", "scenes": 8},
)
_add(
    "taptq_static",
    {
        **_TAPTQ,
        "weight_granularity": "tensor",
        "activation_mode": "static",
        "activation_granularity": "tensor",
    },
    label="TAPTQ, static",
    usual=(4, 8),
    help="TAPTQ with one searched scale for each weight and one, fixed, for each layer's input, as the paper has it.",
    formula="min over Δ of mean[(g (o − ô(Δ)))²];  + x A B + b  where  TRE ≥ 0.007",
    paper="TAPTQ",
    arxiv="2602.01741",
    cost="One pass forward and one back over the calibration scenes, then a walk for the corrections.",
    reading="g is the gradient of the distance to the full-precision result, taken at the rounded network.",
    file="clipping.py",
    calibration={"method": "coarse_to_fine", "scenes": 8},
)
_add(
    "qvggt",
    {
        "smoothing": 0.5,
        "smoothing_rule": "task",
        "weight_granularity": "group",
        "group_size": 0,
        "calibration_tokens": "patch",
        "fragile": 0.08,
    },
    usual=(4, 16),
    help="Weights alone: fragile blocks stay in 16 bits, scales are chosen by the reconstruction itself, on image"
    " tokens only.",
    formula="s = mean|X|ᵃ,  a = argmin of camera + depth + points + ‖points − unprojected depth‖",
    paper="QVGGT",
    arxiv="2605.31124",
    cost="Some passes over the calibration scenes for every block.",
    reading="One exponent a block; the least sensitive 92 % of blocks are quantized.",
    file="mixed_precision.py",
)
_add(
    "flatquant",
    {"rotation": "kronecker", "smoothing": 0.5, "smoothing_order": "before", "reconstruction": "block"},
    help="A learned invertible matrix flattens each layer's input; clipping is learned with it.",
    formula="y = Q(x / c · (P₁⊗P₂)) Q(c W (P₁⊗P₂)⁻ᵀ)ᵀ",
    paper="FlatQuant",
    arxiv="2410.09426",
    cost=LEARN,
    file="kronecker.py",
    calibration={"method": "random", "scenes": 8},
)
_add(
    "fgq",
    {
        "rotation": "kronecker",
        "smoothing": 0.5,
        "smoothing_order": "before",
        "reconstruction": "fisher",
        "rounding": "gptq",
    },
    help="FlatQuant's learned matrix, with the block error weighted by how much the result depends on each channel.",
    formula="min of mean(F · (ĥ − h)²),  F from squared gradients of camera, depth and points",
    paper="FGQ",
    arxiv="2605.15828",
    cost=LEARN + " One pass back per task before it.",
    reading="F is taken of each kind of token by itself, along random directions of the result where there are no"
    " labels; the learned weights are then rounded by GPTQ, as FlatQuant offers.",
    file="kronecker.py",
    calibration={"method": "random", "scenes": 8},
)
_add(
    "versaq",
    {"rotation": "dct"},
    help="Calibration-free: an orthogonal transform from Walsh-Hadamard and cosines, folded into the weight.",
    formula="y = Q(x C H) Q(W C H)ᵀ,  C cosines, H = diag(±1) Hₙ / √n",
    paper="VersaQ-3D",
    arxiv="2601.20317",
    cost=NONE,
    reading="The paper gives no details: the product of both transforms is our reading.",
    file="cosine.py",
)
