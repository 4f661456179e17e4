"""The views of a lab: map, layer, comparison. Each measures through `Lab` and shows it in its pane; no grid here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from quantlab import figures
from quantlab.errors import SceneError
from quantlab.figures.outlier_map import TRUNK
from quantlab.figures.readable import short
from quantlab.models.tokens import KINDS
from quantlab.views.clouds import pair_of_clouds
from quantlab.views.names import short_name
from quantlab.views.numbers import numbers
from quantlab.widgets.controls import LayerControls, RecipeBar, control_row
from quantlab.widgets.pane import Pane, figure_data

if TYPE_CHECKING:
    from quantlab.engine.evaluation import Evaluation
    from quantlab.engine.recipe import Recipe
    from quantlab.engine.views import LayerView
    from quantlab.jobs import Job
    from quantlab.widgets.desk import Desk

ROW_PIXELS = 20
FIGURE_PIXELS = 264
CLOUDS_PIXELS = 400
MOST_POINTS = 400_000
"""A cloud; beyond it an even sample travels to the page."""
COLOURS = {"TRE under the recipe": "tre", "kurtosis of the input": "kurtosis", "max / p99.9": "max_p999"}


class Shown(ABC):
    """What every view has: its pane, its place in the queue, and whether it is out of date."""

    rank = 0
    follows_selection = False

    def __init__(self, desk: Desk, pane: Pane) -> None:
        self.desk, self.pane, self.stale = desk, pane, True
        self.widget: Any = pane

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
    """Presets, undo and redo."""

    rank = 0

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, Pane([]))
        self.bar = RecipeBar(desk, lambda trouble: self.tell(error=trouble))
        self.widget = w.VBox([self.bar.widget, self.pane])

    def update(self, job: Job) -> None:  # noqa: ARG002 - nothing to measure
        """Offer what can be undone now."""
        self.bar.show()


class LayerPane(Shown):
    """One layer: what quantization does to its input, step by step, and the controls of its recipe."""

    rank = 1
    follows_selection = True

    def __init__(self, desk: Desk, name: str = "") -> None:
        super().__init__(desk, Pane(["title", "figure", "words"]))
        self._fixed = name
        self._now: tuple[Recipe, LayerView] | None = None
        self._former: LayerView | None = None
        self._kind = w.Dropdown(
            options=[
                ("histogram", "steps"),
                ("tokens apart", "tokens"),
                ("channels", "channels"),
                ("landscape", "landscape"),
                ("range search", "search"),
            ],
            description="show",
            style={"description_width": "initial"},
            layout=w.Layout(width="max-content"),
        )
        self._kind.observe(lambda _change: self._draw(), names="value")
        self.controls = LayerControls(desk, lambda: self.name, lambda trouble: self.tell(error=trouble))
        top = control_row(self._kind)
        self.plot = w.VBox([top, self.pane])
        self.widget = w.VBox([self.plot, self.controls.widget])

    @property
    def name(self) -> str:
        """The layer shown."""
        return self._fixed or self.desk.selected

    def update(self, job: Job) -> None:
        """Look at the layer under the recipe; the state before the last change stays as a ghost."""
        self.controls.show()
        lab = self.desk.lab
        lab.profile(job=job)
        recipe, view = lab.recipe, lab.layer(self.name)
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
        figure, sentence = self._figure(view)
        self.pane.show("figure", figure_data(figure, FIGURE_PIXELS))
        self.pane.show("words", {"heading": "", "sentences": [sentence, self._error(view)]})

    def _figure(self, view: LayerView) -> tuple[dict[str, Any], str]:
        common: dict[str, Any] = {"name": view.name, "theme": figures.PAGE}
        layer = self.desk.lab.profile().layers.get(view.name)
        if self._kind.value == "tokens" and layer is not None:
            return figures.token_histogram(layer, theme=figures.PAGE), view.reading
        if self._kind.value == "channels":
            return figures.channel_maxima(view, profile=layer, **common), view.reading
        if self._kind.value == "landscape":
            kinds = [KINDS[code] for code in view.landscape_kinds]
            return figures.landscape(view, [*view.landscape][-1:], kinds=kinds, **common), view.reading
        if self._kind.value == "search" and view.search is not None:
            curve = figures.search_curve(view.search.scales, view.search.losses, **common)
            return curve, f"Range search of {view.search.what}."
        former = self._former.steps.get("quantized") if self._former is not None else None
        figure = figures.layer_histogram(view, former=former, profile=layer, **common)
        none = "No range search was made for this layer: choose one under range. "
        return figure, (none if self._kind.value == "search" else "") + view.reading

    def _error(self, view: LayerView) -> str:
        if not view.quantized:
            return f"Not rounded: {view.reason}"
        before = ""
        if self._former is not None and self._former.output_error is not None:
            before = f" (was {short(self._former.output_error)})"
        return f"Relative output error {short(view.output_error)}{before}"


class ComparePane(Shown):
    """Both clouds of a scene under one camera, and the numbers."""

    rank = 2

    def __init__(self, desk: Desk, scene: int = 0) -> None:
        super().__init__(desk, Pane(["clouds", "numbers"]))
        self._scene = scene
        self._now: tuple[Recipe, Evaluation] | None = None
        self._former: Evaluation | None = None
        self.pane.show("clouds", {"height": CLOUDS_PIXELS, "message": "Reconstructing the scene …"})

    def update(self, job: Job) -> None:
        """Reconstruct the scene at full precision and under the recipe, and score it."""
        lab = self.desk.lab
        recipe = lab.recipe
        try:
            comparison = lab.compare(scene=self._scene, job=job)
        except SceneError as error:  # a module that is no reconstruction has numbers all the same
            self.pane.show("clouds", {"height": CLOUDS_PIXELS, "message": str(error)})
        else:
            payload = pair_of_clouds(
                comparison,
                comparison.left,
                comparison.right,
                scene=f"scene {self._scene}",
                limit=MOST_POINTS,
            )
            self.pane.show("clouds", {"height": CLOUDS_PIXELS, "message": ""}, [payload])
        evaluation = lab.evaluate(job=job)
        if self._now is not None and self._now[0] != recipe:
            self._former = self._now[1]
        self._now = (recipe, evaluation)
        sizes = (evaluation.packed_bytes, evaluation.full_bytes)
        tiles = numbers(evaluation, self._former, sizes=sizes, stale=False)
        self.pane.show("numbers", tiles["items"])


class MapPane(Shown):
    """The map of the network and its worst layers."""

    rank = 3
    follows_selection = True

    def __init__(self, desk: Desk, color_by: str = "") -> None:
        super().__init__(desk, Pane(["figure", "rows"], on_event=self.clicked))
        rounds = bool(color_by) or any(
            settings.quantized for settings in desk.lab.recipe.layers(desk.lab.structure).values()
        )
        style = {"description_width": "initial"}
        layout = w.Layout(width="max-content")
        self._colour = w.Dropdown(
            options=list(COLOURS.items()),
            value=color_by or ("tre" if rounds else "kurtosis"),
            description="colour by",
            style=style,
            layout=layout,
        )
        has_trunk = any(layer.stream in TRUNK for layer in desk.lab.structure.layers.values())
        self._streams = w.Dropdown(
            options=[("frame and global", "trunk"), ("all layers", "all")],
            value="trunk" if has_trunk else "all",
            description="show",
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
        self.pane.show("figure", figure_data(figure, height))
        self.pane.show("rows", self._worst(values, color_by))

    def _worst(self, values: Mapping[str, float], color_by: str) -> dict[str, Any]:
        infos = self.desk.lab.structure.layers
        rows = [
            {"name": name, "label": short_name(infos[name]), "value": short(value)}
            for name, value in figures.worst(values, 8)
        ]
        title = f"Worst layers by {figures.QUANTITIES[color_by].short}"
        return {
            "title": title,
            "rows": rows,
            "selected": self.desk.selected,
            "empty": "No layer has an error: the recipe rounds nothing. Choose a preset.",
        }
