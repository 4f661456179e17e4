"""One layer as a view of the lab: its plots as in the app, what they say in words, and the controls of its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from quantlab import figures
from quantlab.figures.readable import short
from quantlab.views.layer_plots import NO_SEARCH, NO_WEIGHT, SIDES, search_plot, side_of, side_plot
from quantlab.views.names import short_name
from quantlab.widgets.controls import LayerControls, control_row
from quantlab.widgets.pane import Pane, figure_data
from quantlab.widgets.views import Shown

if TYPE_CHECKING:
    from quantlab.calibration.profile import LayerProfile
    from quantlab.engine.recipe import Recipe
    from quantlab.engine.views import LayerView
    from quantlab.figures.theme import Figure
    from quantlab.jobs import Job
    from quantlab.widgets.desk import Desk

FIGURE_PIXELS = 264
KINDS = {
    "histogram": "histogram",
    "waterfall": "waterfall",
    "tokens apart": "tokens",
    "channels": "channels",
    "landscape": "landscape",
    "landscape in 3D": "surface",
    "range search": "search",
}
WITH_SIDES = ("histogram", "waterfall", "channels", "landscape", "surface")
"""Kinds that show inputs or weights; the others show one thing only."""


class LayerPane(Shown):
    """One layer: what quantization does to its input, step by step, and the controls of its recipe."""

    rank = 1
    follows_selection = True

    def __init__(self, desk: Desk, name: str = "") -> None:
        super().__init__(desk, Pane(["title", "figure", "words"]))
        self._fixed = name
        self._now: tuple[Recipe, LayerView] | None = None
        self._former: LayerView | None = None
        self._kind = _choice("show", KINDS, "What to look at of this layer.")
        self._side = _choice("of", SIDES, "The layer's inputs, or its weights.")
        for control in (self._kind, self._side):
            control.observe(lambda _change: self._draw(), names="value")
        self.controls = LayerControls(desk, lambda: self.name, lambda trouble: self.tell(error=trouble))
        top = control_row(self._kind, self._side)
        self.plot = w.VBox([top, self.pane])
        self.widget = w.VBox([self.plot, self.controls.widget])

    @property
    def name(self) -> str:
        """The layer shown."""
        return self._fixed or self.desk.selected

    def settle(self) -> None:
        """Set the controls to the recipe."""
        self.controls.show()

    def update(self, job: Job) -> None:
        """Look at the layer under the recipe; the state before the last change stays as a ghost."""
        lab = self.desk.lab
        lab.profile(job=job)
        recipe, view = lab.recipe, lab.layer(self.name, job=job)
        if self._now is None or self._now[1].name != view.name:
            self._former = None
        elif self._now[0] != recipe:
            self._former = self._now[1]
        self._now = (recipe, view)
        self._draw()

    def _draw(self) -> None:
        if self._now is None:
            return
        view = self._now[1]
        info = self.desk.lab.structure.layers[view.name]
        self.pane.show("title", {"heading": short_name(info), "full": view.name})
        layer = self.desk.lab.profile().layers.get(view.name)
        self._side.disabled = self._kind.value not in WITH_SIDES
        figure, said = layer_figure(self._kind.value, self._side.value, view, self._former, layer)
        self.pane.show("figure", figure_data(figure, FIGURE_PIXELS, view.name))
        sentences = [said, view.reading, self._error(view)]
        self.pane.show("words", {"heading": "", "sentences": [text for text in sentences if text]})

    def _error(self, view: LayerView) -> str:
        if not view.quantized:
            return f"Not rounded: {view.reason}"
        before = ""
        if self._former is not None and self._former.output_error is not None:
            before = f" (was {short(self._former.output_error)})"
        return f"Relative output error {short(view.output_error)}{before}"


def layer_figure(
    kind: str, side: str, view: LayerView, former: LayerView | None, profile: LayerProfile | None
) -> tuple[Figure, str]:
    """The plot asked for, or the histogram and a sentence on why there is none.

    Args:
        kind: A value of ``KINDS``.
        side: "inputs" or "weights".
        view: What the recipe does to the layer.
        former: Before the last change, drawn as a ghost; None: nothing.
        profile: What calibration saw of it.
    """
    if kind == "tokens" and profile is not None:
        return figures.token_histogram(profile, theme=figures.PAGE), ""
    search = search_plot(view, former, view.name) if kind == "search" else None
    if search is not None and view.search is not None:
        return search, f"Range search of {view.search.what}."
    shown, past = side_of(view, side), side_of(former, side)
    if shown is None:
        shown, past, side, said = view, former, "inputs", f"{NO_WEIGHT} These are its inputs."
    else:
        said = NO_SEARCH if kind == "search" else ""
    return side_plot(kind, shown, past, profile if side == "inputs" else None, f"{view.name} {side}"), said


def _choice(label: str, options: Mapping[str, str], text: str) -> Any:
    style, layout = {"description_width": "initial"}, w.Layout(width="max-content")
    return w.Dropdown(
        options=list(options.items()), description=label, tooltip=text, style=style, layout=layout
    )
