"""The lab in a notebook: `bench`, `map`, `layer`, `compare`, `table`, `front`. Importing it loads no toolkit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantlab.engine.search_record import Search
    from quantlab.lab import Lab

__all__ = ["bench", "compare", "front", "layer", "map", "table"]


def bench(lab: Lab) -> Any:
    """Everything in one grid: the map of the network, one layer, the controls, both clouds and the numbers.

    A click on the map selects a layer; a control changes the recipe of ``lab``, and the plots, clouds and numbers
    follow. Recipes set in other cells (``lab.set(...)``, ``lab.undo()``) are followed as well.

    Args:
        lab: What to look at; several widgets on one lab stay in step.

    Returns:
        An ipywidget: the last line of a cell shows it.
    """
    from quantlab.widgets.grid import bench_widget

    return bench_widget(lab)


def map(lab: Lab, *, color_by: str = "") -> Any:  # noqa: A001 - called as ql.widgets.map
    """The map of the network with the worst layers below; a click selects a layer for the other widgets of ``lab``.

    Args:
        lab: What to look at.
        color_by: "tre", "kurtosis" or "max_p999"; "" takes TRE where the recipe rounds anything, else kurtosis.
    """
    from quantlab.widgets.grid import map_widget

    return map_widget(lab, color_by)


def layer(lab: Lab, name: str = "") -> Any:
    """One layer: its histogram with the quantizer's grid, and the controls of its recipe.

    Args:
        lab: What to look at.
        name: State-dict prefix of the layer; "" follows what is selected on the map.

    Raises:
        RecipeError: No layer has this name.
    """
    from quantlab.widgets.grid import layer_widget

    return layer_widget(lab, name)


def compare(lab: Lab, *, scene: int = 0) -> Any:
    """Full precision and quantized clouds under one camera, with the numbers below.

    A region drawn in them with the lasso is asked who is to blame: the layers that damage it most are listed below the
    clouds, each with buttons that restore it or give it more bits.

    Args:
        lab: What to look at.
        scene: Which of ``lab.evaluation``.
    """
    from quantlab.widgets.grid import compare_widget

    return compare_widget(lab, scene)


def table(lab: Lab) -> Any:
    """All layers with their settings, tails and TRE: filter, sort, and change cells in place.

    A change is one step of the recipe and can be undone; set "a change holds for" to all layers shown, and it is
    written for every layer the filter leaves. A click on a row selects the layer for the other widgets of ``lab``.

    Args:
        lab: What to look at.
    """
    from quantlab.widgets.grid import table_widget

    return table_widget(lab)


def front(lab: Lab, search: Search) -> Any:
    """Size against drift of the recipes a search considered; a click on a point loads its recipe.

    Args:
        lab: What the recipes are loaded into.
        search: From ``lab.search()``.
    """
    from quantlab.widgets.grid import front_widget

    return front_widget(lab, search)
