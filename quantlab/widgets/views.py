"""What every view of a lab has, and two of them: the recipe bar and the map. They are put together elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from quantlab import figures
from quantlab.figures.outlier_map import TRUNK
from quantlab.views.names import short_name
from quantlab.views.numbers import digits
from quantlab.widgets.controls import RecipeBar, control_row
from quantlab.widgets.exchange import incoming, outgoing
from quantlab.widgets.pane import Pane, figure_data

if TYPE_CHECKING:
    from quantlab.jobs import Job
    from quantlab.widgets.desk import Desk

ROW_PIXELS = 20
COLOURS = {"TRE under the recipe": "tre", "kurtosis of the input": "kurtosis", "max / p99.9": "max_p999"}


class Shown(ABC):
    """What every view has: its pane, its place in the queue, and whether it is out of date."""

    rank = 0
    follows_selection = False

    def __init__(self, desk: Desk, pane: Pane) -> None:
        self.desk, self.pane, self.stale = desk, pane, True
        self.widget: Any = pane

    def settle(self) -> None:  # noqa: B027 - most views know nothing before they measure
        """Show what can be known without measuring."""

    @abstractmethod
    def update(self, job: Job) -> None:
        """Measure what it shows, and show it."""

    def tell(self, *, status: str | None = None, error: str | None = None) -> None:
        """Say what is going on, or what went wrong; "" takes it away, None leaves it."""
        if status is not None:
            self.pane.show("status", status)
        if error is not None:
            self.pane.show("error", error)

    def clicked(self, event: Mapping[str, Any]) -> None:
        """A layer was clicked; whatever else a page sends is ignored."""
        if event.get("type") == "select" and isinstance(event.get("name"), str):
            self.desk.select(event["name"])


class BarView(Shown):
    """Presets, undo and redo, and the recipe as text to copy or paste."""

    rank = 0

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, Pane(["recipe"], on_event=self.happened))
        self.bar = RecipeBar(desk, lambda trouble: self.tell(error=trouble))
        self.widget = w.VBox([self.bar.widget, self.pane])

    def settle(self) -> None:
        """Offer what can be undone now, and the recipe as text."""
        self.bar.show()
        self.pane.show("recipe", outgoing(self.desk.lab))

    def update(self, job: Job) -> None:
        """There is nothing to measure."""

    def happened(self, event: Mapping[str, Any]) -> None:
        """A recipe was pasted; whatever else a page sends is ignored."""
        lab, text = self.desk.lab, event.get("text", "")

        def take() -> None:
            lab.recipe = incoming(text)

        if event.get("type") == "recipe" and isinstance(text, str):
            self.tell(error=self.desk.edit(take))


class MapPane(Shown):
    """The map of the network and its worst layers."""

    rank = 3
    follows_selection = True

    def __init__(self, desk: Desk, color_by: str = "") -> None:
        super().__init__(desk, Pane(["figure", "rows"], on_event=self.clicked))
        rounds = bool(color_by) or any(
            settings.quantized for settings in desk.lab.recipe.layers(desk.lab.structure).values()
        )
        style, known = {"description_width": "initial"}, figures.QUANTITIES
        layout = w.Layout(width="max-content")
        self._colour = w.Dropdown(
            options=list(COLOURS.items()),
            value=color_by or ("tre" if rounds else "kurtosis"),
            description="colour by",
            tooltip=" ".join(f"{known[key].short}: {known[key].help}" for key in COLOURS.values()),
            style=style,
            layout=layout,
        )
        has_trunk = any(layer.stream in TRUNK for layer in desk.lab.structure.layers.values())
        self._streams = w.Dropdown(
            options=[("frame and global", "trunk"), ("all layers", "all")],
            value="trunk" if has_trunk else "all",
            description="show",
            tooltip="The trunk alone, or patch embedding and heads as well.",
            style=style,
            layout=layout,
        )
        for control in (self._colour, self._streams):
            control.observe(lambda _change: self._redraw(), names="value")
        top = control_row(self._colour, self._streams)
        self.widget = w.VBox([top, self.pane])

    def _redraw(self) -> None:
        self.stale = True
        self.desk.refresh()

    def update(self, job: Job) -> None:
        """Draw the map; TRE is measured anew when the recipe changed."""
        lab, color_by = self.desk.lab, self._colour.value
        profile = lab.profile(job=job)
        values = figures.severities(color_by, profile, lab.diagnose(job=job) if color_by == "tre" else None)
        streams = TRUNK if self._streams.value == "trunk" else None
        layers = [
            layer for layer in lab.structure.layers.values() if streams is None or layer.stream in streams
        ]
        values = {layer.name: values[layer.name] for layer in layers if layer.name in values}
        settings = lab.recipe.layers(lab.structure)
        figure = figures.outlier_map(
            layers,
            values,
            color_by=color_by,
            streams=streams,
            untouched=[name for name, chosen in settings.items() if not chosen.quantized],
            selected=self.desk.selected,
            theme=figures.PAGE,
        )
        height = 32 + ROW_PIXELS * max(4, len(figure["data"][0]["z"]))
        self.pane.show("figure", figure_data(figure, height, f"map {color_by}"))
        self.pane.show("rows", self._worst(values, color_by))

    def _worst(self, values: Mapping[str, float], color_by: str) -> dict[str, Any]:
        infos = self.desk.lab.structure.layers
        rows = [
            {"name": name, "label": short_name(infos[name]), "value": digits(value)}
            for name, value in figures.worst(values, 8)
        ]
        title = f"Worst layers by {figures.QUANTITIES[color_by].short}"
        return {
            "title": title,
            "rows": rows,
            "selected": self.desk.selected,
            "empty": "No layer has an error: the recipe rounds nothing. Choose a preset.",
        }
