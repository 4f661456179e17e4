"""The controls of one layer's recipe, of presets, undo and redo. They change the lab's recipe and measure nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from quantlab.engine.presets import PRESETS
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import BITS, FIELDS, BranchSettings, LayerSettings
from quantlab.views.edits import DEFAULT_ALPHA, branch_of, edited

if TYPE_CHECKING:
    from quantlab.widgets.desk import Desk

Tell = Callable[[str], None]
APPLY_TO = {"this layer": "layer", "its kind": "kind", "its block": "block", "all in scope": "all"}
CHOOSE = "choose …"
PRESET_HELP = "A published method as a whole recipe; it replaces the one in force, and undo takes it back."
BIT_CHOICES = [(str(bits), bits) for bits in BITS]


class LayerControls:
    """Bits, rotation, smoothing, range, compensation and keep of one layer, written where "apply to" says.

    Args:
        desk: Of the lab.
        layer: Gives the name of the layer that is shown.
        tell: Takes what was wrong with a change, or "".
    """

    def __init__(self, desk: Desk, layer: Callable[[], str], tell: Tell) -> None:
        self._desk, self._layer, self._tell = desk, layer, tell
        self._showing = False
        self._weights = _dropdown("W bits", BIT_CHOICES, FIELDS["weights"].metadata["help"])
        self._activations = _dropdown("A bits", BIT_CHOICES, FIELDS["activations"].metadata["help"])
        self._rotation = _checkbox("rotation", FIELDS["rotation"].metadata["help"])
        self._smoothing = _checkbox("smoothing", FIELDS["smoothing"].metadata["help"])
        self._alpha = _slider("α", FIELDS["smoothing"].metadata["help"])
        searches = FIELDS["range_search"].metadata
        self._search = _dropdown("range search", searches["choices"], searches["help"])
        compensations = FIELDS["compensation"].metadata
        self._compensation = _dropdown("compensation", compensations["choices"], compensations["help"])
        self._keep = _checkbox("keep", FIELDS["keep"].metadata["help"])
        self._apply_to = _dropdown(
            "apply to", list(APPLY_TO.items()), "Which layers a change is written for."
        )
        self._bind()
        rows = [
            control_row(self._apply_to, self._weights, self._activations, self._keep),
            control_row(self._rotation, self._smoothing, self._alpha),
            control_row(self._search, self._compensation),
        ]
        self.widget = w.VBox(rows)

    def show(self) -> None:
        """Set every control to what the recipe says about the layer."""
        recipe, structure, name = self._desk.lab.recipe, self._desk.lab.structure, self._layer()
        settings = recipe.layer(name, structure)
        branch = branch_of(structure, name)
        with self._quietly():
            self._set(settings, recipe.branch(branch) if branch else BranchSettings())
            self._compensation.disabled = not branch

    def _set(self, settings: LayerSettings, branch: BranchSettings) -> None:
        self._weights.value = settings.weights
        self._activations.value = settings.activations
        self._rotation.value = settings.rotation != "none"
        self._smoothing.value = settings.smoothing is not None
        self._alpha.disabled = settings.smoothing is None
        if settings.smoothing is not None:
            self._alpha.value = settings.smoothing
        self._search.value = settings.range_search
        self._keep.value = settings.keep
        self._compensation.value = branch.compensation

    def _bind(self) -> None:
        self._follow(self._weights, "weights", _itself)
        self._follow(self._activations, "activations", _itself)
        self._follow(self._rotation, "rotation", lambda on: "hadamard" if on else "none")
        self._follow(self._smoothing, "smoothing", lambda on: self._alpha.value if on else None)
        self._follow(self._alpha, "smoothing", _itself)
        self._follow(self._search, "range_search", _itself)
        self._follow(self._compensation, "compensation", _itself)
        self._follow(self._keep, "keep", _itself)

    def _follow(self, control: Any, setting: str, value_of: Callable[[Any], Any]) -> None:
        def changed(change: Any) -> None:
            if not self._showing:
                self._edit(setting, value_of(change["new"]))

        control.observe(changed, names="value")

    def _edit(self, setting: str, value: Any) -> None:
        lab, name, apply_to = self._desk.lab, self._layer(), self._apply_to.value

        def change() -> None:
            lab.recipe = edited(lab.recipe, lab.structure, {setting: value}, layer=name, apply_to=apply_to)

        trouble = self._desk.edit(change)
        if trouble:
            self.show()
            self._tell(trouble)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Values set here are no wish of a person."""
        self._showing = True
        try:
            yield
        finally:
            self._showing = False


class RecipeBar:
    """Presets with their bits, undo and redo, and Run and Stop where nothing starts by itself."""

    def __init__(self, desk: Desk, tell: Tell) -> None:
        self._desk, self._tell = desk, tell
        self._preset = _dropdown(
            "preset", [(CHOOSE, ""), *[(preset.label, name) for name, preset in PRESETS.items()]], PRESET_HELP
        )
        self._bits = _dropdown("bits", [(f"W{n}A{n}", n) for n in (3, 4, 6, 8)], "Bits of the preset.")
        self._bits.value = 4
        self._undo = _button("undo", "Take the last change back")
        self._redo = _button("redo", "Make the change again")
        self._undo.on_click(lambda _button: self._edit(desk.lab.undo))
        self._redo.on_click(lambda _button: self._edit(desk.lab.redo))
        self._preset.observe(lambda _change: self._load(), names="value")
        self._bits.observe(lambda _change: self._load(), names="value")
        children = [self._preset, self._bits, self._undo, self._redo]
        if not desk.lab.interactive:
            run, stop = _button("Run", "Carry out the recipe"), _button("Stop", "End the running work")
            run.on_click(lambda _button: desk.run())
            stop.on_click(lambda _button: desk.stop())
            children += [run, stop]
        self.widget = control_row(*children)

    def show(self) -> None:
        """Offer what can be undone and redone."""
        self._undo.disabled = not self._desk.lab.can_undo
        self._redo.disabled = not self._desk.lab.can_redo

    def _load(self) -> None:
        name, bits = self._preset.value, self._bits.value
        self._preset.tooltip = PRESETS[name].help if name else PRESET_HELP
        if not name:
            return

        def load() -> None:
            self._desk.lab.recipe = Recipe.preset(name, weights=bits, activations=bits)

        self._edit(load)

    def _edit(self, change: Callable[[], object]) -> None:
        self._tell(self._desk.edit(change))


def _itself(value: Any) -> Any:
    return value


def control_row(*controls: Any) -> Any:
    """Controls beside each other, wrapping where there is little room."""
    row = w.HBox(controls, layout=w.Layout(flex_flow="row wrap", overflow="hidden"))
    row.add_class("ql-controls")
    return row


def _dropdown(label: str, options: Any, text: str) -> Any:
    style = {"description_width": "initial"}
    layout = w.Layout(width="max-content")
    return w.Dropdown(options=options, description=label, tooltip=text, style=style, layout=layout)


def _checkbox(label: str, text: str) -> Any:
    return w.Checkbox(description=label, tooltip=text, indent=False, layout=w.Layout(width="max-content"))


def _slider(label: str, text: str) -> Any:
    style = {"description_width": "initial"}
    layout = w.Layout(width="168px")
    bounds = {"min": 0.0, "max": 1.0, "step": 0.05, "value": DEFAULT_ALPHA}
    return w.FloatSlider(
        **bounds, description=label, tooltip=text, continuous_update=False, style=style, layout=layout
    )


def _button(label: str, text: str) -> Any:
    return w.Button(description=label, tooltip=text, layout=w.Layout(width="max-content"))
