"""Attention as it is traced for a target. It differs from the network's own only where a runtime would get it wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from quantlab.models.layers import Attention
from quantlab.models.rotary import RotaryTables


def traced_attention(attention: Attention, qkv: Tensor, rotary: RotaryTables | None) -> Tensor:
    """From ``qkv`` [batch, tokens, 3, heads, channels] to [batch, tokens, heads, channels].

    Where there are as many heads as tokens (a camera head on as many frames), OpenVINO 2026.4 takes one for the other
    when it fuses products of four dimensions on a CPU; products of three it computes rightly.
    """
    query, key, value = attention.parts(qkv, rotary)
    if query.shape[1] != query.shape[2]:
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    left, right, mixed = (part.flatten(0, 1) for part in (query, key, value))
    weights = torch.softmax(left @ right.transpose(1, 2) * query.shape[-1] ** -0.5, dim=-1)
    return (weights @ mixed).unflatten(0, query.shape[:2]).transpose(1, 2)
