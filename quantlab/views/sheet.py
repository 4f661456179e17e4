"""Every setting as a control: its group, kind, bounds and name, and where it has a say. It changes no recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from quantlab.engine.settings import (
    BRANCH_FIELDS,
    FIELDS,
    FULL_PRECISION,
    LAYER_FIELDS,
    BranchSettings,
    LayerSettings,
)

GROUPS = {
    "Format": (
        "weights",
        "activations",
        "weight_granularity",
        "group_size",
        "weight_symmetric",
        "activation_granularity",
        "activation_mode",
        "activation_symmetric",
        "twin",
        "keep",
    ),
    "Transform": ("rotation", "rotation_group", "smoothing", "smoothing_order", "smoothing_rule"),
    "Range and rounding": (
        "range_search",
        "percentile",
        "search_loss",
        "rounding",
        "column_order",
        "low_rank",
    ),
    "Calibration": ("reconstruction", "epochs", "inputs", "calibration_tokens", "fragile"),
    "Branch": (
        "compensation",
        "tre_threshold",
        "tre_fraction",
        "rank",
        "kv_bits",
        "kv_rotation",
        "kv_protect",
    ),
}
"""Every field stands in one group; a test holds that."""
LABELS = {
    "tre_threshold": "TRE threshold",
    "tre_fraction": "TRE fraction",
    "rank": "compensation rank",
    "low_rank": "low-rank branch",
    "kv_bits": "K/V bits",
    "kv_rotation": "K/V rotation",
    "kv_protect": "K/V protect",
    "keep": "keep in full precision",
}
"""Names that are no words when their underscores become spaces."""
AUTOMATIC = {
    "group_size": "auto",
    "rotation_group": "auto",
    "rank": "auto",
    "low_rank": "none",
    "fragile": "none",
}
"""What 0 stands for, shown in its place."""
OF_CONVOLUTIONS = ("weights", "weight_granularity", "weight_symmetric", "range_search", "percentile", "keep")
KV_FIELDS = ("kv_bits", "kv_rotation", "kv_protect")


def sheet() -> list[dict[str, Any]]:
    """Groups with their controls, in the order a person reads them."""
    return [{"title": title, "fields": [_control(name) for name in names]} for title, names in GROUPS.items()]


def sheet_values(
    settings: LayerSettings, branch: BranchSettings | None, *, in_scope: bool = True
) -> dict[str, Any]:
    """What every control says of a layer and its branch; a layer in no branch has no values of one.

    A layer that the recipe does not reach is in full precision, whatever bits the recipe names.
    """
    values = {**asdict(settings), **(asdict(branch) if branch is not None else {})}
    reached = {"weights": FULL_PRECISION, "activations": FULL_PRECISION, "keep": False}
    return values if in_scope else {**values, **reached}


def usable(*, kept: bool, in_scope: bool, linear: bool, branch: str) -> list[str]:
    """The settings that have a say where a person looks.

    Args:
        kept: The layer is kept in full precision.
        in_scope: The recipe reaches it; one that it does not reach comes in by choosing its bits.
        linear: It is no convolution; of those only the weights are rounded.
        branch: Kind of its branch, "attn" or "mlp"; "" where it is in none.
    """
    own = tuple(LAYER_FIELDS) if linear else OF_CONVOLUTIONS
    if not in_scope:
        own = tuple(name for name in own if name in ("weights", "activations"))
    elif kept:
        own = ("keep",)
    of_branch = [name for name in BRANCH_FIELDS if branch and (branch == "attn" or name not in KV_FIELDS)]
    return [*own, *of_branch]


def setting_word(name: str, value: Any) -> str:
    """A setting's value as a person reads it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "off"
    return AUTOMATIC[name] if value == 0 and name in AUTOMATIC else str(value).replace("_", " ")


def _control(name: str) -> dict[str, Any]:
    bounds: Mapping[str, Any] = FIELDS[name].metadata
    default = FIELDS[name].default
    control = {
        "name": name,
        "label": LABELS.get(name, name.replace("_", " ")),
        "help": f"{name}: {bounds['help']} Default: {setting_word(name, default)}.",
        "default": default,
    }
    if "choices" not in bounds:
        return {
            **control,
            "kind": "number",
            "low": bounds["low"],
            "high": bounds["high"],
            "step": 1 if isinstance(bounds["low"], int) else "any",
            "optional": bool(bounds.get("optional")),
            "automatic": AUTOMATIC.get(name, ""),
        }
    if set(bounds["choices"]) == {True, False}:
        return {**control, "kind": "switch"}
    return {**control, "kind": "choice", "choices": list(bounds["choices"])}
