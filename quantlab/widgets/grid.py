"""The widgets of the public surface, put together from the views. It measures and draws nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as w

from quantlab import figures
from quantlab.errors import RecipeError
from quantlab.widgets.clouds_view import ComparePane
from quantlab.widgets.desk import Desk
from quantlab.widgets.front_view import FrontView
from quantlab.widgets.layer_view import LayerPane
from quantlab.widgets.table_view import TableView
from quantlab.widgets.views import COLOURS, BarView, MapPane, Shown

if TYPE_CHECKING:
    from quantlab.engine.search_record import Search
    from quantlab.lab import Lab


def bench_widget(lab: Lab) -> Any:
    """Map, layer, comparison and controls in one grid; see `quantlab.widgets.bench`."""
    desk = Desk.of(lab)
    _look_at_the_worst(desk)
    bar, layer, compare, network = BarView(desk), LayerPane(desk), ComparePane(desk), MapPane(desk)
    columns = [w.VBox([network.widget, layer.plot]), w.VBox([compare.widget, layer.controls.widget])]
    for column in columns:
        column.add_class("ql-column")
    columns[0].layout.overflow = columns[1].layout.overflow = "hidden"
    grid = w.GridBox(
        columns,
        layout=w.Layout(
            grid_template_columns="repeat(auto-fit, minmax(min(100%, 420px), 1fr))", grid_gap="8px 16px"
        ),
    )
    whole = w.VBox([bar.widget, grid])
    whole.add_class("ql-bench")
    return _opened(desk, whole, [bar, layer, compare, network])


def map_widget(lab: Lab, color_by: str) -> Any:
    """The map; see `quantlab.widgets.map`."""
    if color_by and color_by not in COLOURS.values():
        known = ", ".join(COLOURS.values())
        raise RecipeError(
            f"the map cannot be coloured by {color_by!r}", place="color_by", remedy=f"Use one of: {known}."
        )
    desk = Desk.of(lab)
    view = MapPane(desk, color_by)
    return _opened(desk, view.widget, [view])


def layer_widget(lab: Lab, name: str) -> Any:
    """One layer; see `quantlab.widgets.layer`."""
    desk = Desk.of(lab)
    if name and name not in lab.structure.layers:
        from difflib import get_close_matches

        near = get_close_matches(name, lab.structure.layers, n=1, cutoff=0.3)
        hint = f"Did you mean {near[0]!r}?" if near else "Names are in lab.structure.layers."
        raise RecipeError(f"unknown layer {name!r}", place="layer", remedy=hint)
    view = LayerPane(desk, name)
    return _opened(desk, view.widget, [view])


def compare_widget(lab: Lab, scene: int) -> Any:
    """The clouds; see `quantlab.widgets.compare`."""
    desk = Desk.of(lab)
    view = ComparePane(desk, scene)
    return _opened(desk, view.widget, [view])


def table_widget(lab: Lab) -> Any:
    """The table with the recipe bar above it; see `quantlab.widgets.table`."""
    desk = Desk.of(lab)
    bar, view = BarView(desk), TableView(desk)
    return _opened(desk, w.VBox([bar.widget, view.widget]), [bar, view])


def front_widget(lab: Lab, search: Search) -> Any:
    """The front of a search; see `quantlab.widgets.front`."""
    desk = Desk.of(lab)
    view = FrontView(desk, search)
    return _opened(desk, view.widget, [view])


def _look_at_the_worst(desk: Desk) -> None:
    """Begin with the layer in most trouble, where that can be known at once."""
    if desk.chosen or not desk.lab.interactive:
        return
    values = figures.severities("kurtosis", desk.lab.profile(), None)
    scope = desk.lab.recipe.layers(desk.lab.structure)
    inside = {name: value for name, value in values.items() if not scope[name].keep}
    for name, _value in figures.worst(inside or values, 1):
        desk.select(name)


def _opened(desk: Desk, widget: Any, views: list[Shown]) -> Any:
    """Measure the views, and forget them when the widget is closed."""
    try:
        desk.add(*views)
    except BaseException:  # interrupted: nobody will ever see these
        desk.remove(*views)
        raise

    def closed(change: Any) -> None:
        if change["new"] is None:
            desk.remove(*views)

    widget.observe(closed, names="comm")
    return widget
