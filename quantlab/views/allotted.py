"""Which layer has how many bits, laid out as on the map of the network. It chooses no bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from quantlab.engine.settings import FULL_PRECISION
from quantlab.figures.outlier_map import grid
from quantlab.views.names import distinct_names

if TYPE_CHECKING:
    from quantlab.models.structure import Structure


def places(names: Iterable[str], structure: Structure) -> dict[str, Any]:
    """The map of some layers, without their bits.

    Returns:
        ``layers``: what they are called, in the order of the network; ``ids``: their names likewise.
        ``rows``: each with its ``label``, and in ``cells`` the place of a layer in that list, or -1 where none is.
    """
    wanted = set(names)
    infos = [info for name, info in structure.layers.items() if name in wanted]
    order = {info.name: place for place, info in enumerate(infos)}
    rows = grid(infos)
    columns = 1 + max((column for _, cells in rows for column in cells), default=-1)
    short = distinct_names(infos)
    return {
        "layers": [short[name] for name in order],
        "ids": list(order),
        "rows": [
            {"label": label, "cells": [order.get(cells.get(column, ""), -1) for column in range(columns)]}
            for label, cells in rows
        ],
    }


def allotted(bits: Mapping[str, int], ids: Iterable[str]) -> list[int]:
    """Bits of the layers of `places`, in its order; 16 where a layer is not rounded."""
    return [bits.get(name, FULL_PRECISION) for name in ids]
