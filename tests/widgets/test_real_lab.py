"""The widgets over the real `Lab`, on a module so small that it costs nothing. The pictures are tested elsewhere."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quantlab import widgets
from quantlab.engine.recipe import Recipe
from quantlab.figures.readable import short
from quantlab.lab import Lab
from quantlab.widgets.desk import Desk


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


class Interrupting:
    """Runs a module; the ``at``-th call is interrupted, as by Ctrl+C."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, network: nn.Module, value: Any) -> Any:
        outputs = network(value)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return outputs


def open_lab(predict: Any = None) -> Lab:
    inputs = [torch.randn(9, 12, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    recipe = Recipe.preset("rtn", scope="linears")
    return Lab(Mlp(), calibration=inputs, evaluation=inputs[:1], recipe=recipe, predict=predict)


def test_a_module_that_is_no_reconstruction_has_a_bench_with_a_sentence_for_the_clouds() -> None:
    lab = open_lab()
    widgets.bench(lab)
    _bar, layer, compare, network = Desk.of(lab)._views
    assert [view.pane.shown("error") for view in Desk.of(lab)._views] == [""] * 4
    assert "reconstruction" in compare.pane.shown("clouds")["message"]
    assert len(network.pane.shown("rows")["rows"]) == 2
    before = layer.pane.shown("words")
    layer.controls._activations.value = 8
    assert layer.pane.shown("words") != before


def test_the_values_after_undo_are_those_before_the_change() -> None:
    lab = open_lab()
    widgets.layer(lab, "layers.0")
    (view,) = Desk.of(lab)._views
    before = view.pane.shown("words")["sentences"][0]
    lab.set("layers.0", activations=3)
    assert view.pane.shown("words")["sentences"][0] != before
    lab.undo()
    assert view.pane.shown("words")["sentences"][0] == before


@pytest.mark.parametrize("call", [1, 2, 3, 5])
def test_an_interrupted_cell_leaves_no_hook_behind_and_the_next_one_works(call: int) -> None:
    lab = open_lab(predict := Interrupting(call))
    with pytest.raises(KeyboardInterrupt):
        widgets.bench(lab)
    assert predict.left == 0
    assert hooks(lab.model) == 0
    assert Desk.of(lab)._views == []
    widgets.bench(lab)
    assert all(view.pane.shown("status") == "" for view in Desk.of(lab)._views)


def test_two_front_ends_on_one_lab_from_threads_end_at_the_same_recipe_and_numbers() -> None:
    lab = open_lab()
    widgets.bench(lab)
    trouble: list[str] = []

    def edits(layer: str) -> None:
        steps = (partial(lab.set, layer, weights=bits) for bits in (8, 3, 6, 5))
        trouble.extend(Desk.of(lab).edit(step) for step in steps)

    threads = [threading.Thread(target=edits, args=(name,)) for name in ("layers.0", "layers.2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert set(trouble) == {""}
    assert [lab.recipe.layer(name, lab.structure).weights for name in ("layers.0", "layers.2")] == [5, 5]
    views = Desk.of(lab)._views
    assert [(view.stale, view.pane.shown("error"), view.pane.shown("status")) for view in views] == [
        (False, "", "")
    ] * 4
    shown, view = views[1].pane.shown("words")["sentences"][-1], lab.layer(views[1].name)
    assert shown.startswith(f"Relative output error {short(view.output_error)}")
    assert hooks(lab.model) == 0


def test_another_thread_may_change_the_lab_while_a_widget_measures() -> None:
    lab = open_lab()
    widgets.table(lab)
    thread = threading.Thread(target=lambda: [lab.set("*", weights=bits) for bits in (8, 6, 3)])
    thread.start()
    for bits in (5, 7):
        lab.set("layers.0", activations=bits)
    thread.join(60)
    table = Desk.of(lab)._views[-1].pane.shown("table")
    layer = lab.recipe.layer("layers.0", lab.structure)
    assert (layer.weights, layer.activations) == (3, 7)
    assert table["rows"][0]["values"][2:4] == [3, 7]


def test_a_cell_interrupted_while_the_table_measures_leaves_the_lab_as_it_was() -> None:
    lab = open_lab(predict := Interrupting(0))
    widgets.table(lab)
    before = [row["values"] for row in Desk.of(lab)._views[-1].pane.shown("table")["rows"]]
    predict.left = 1
    with pytest.raises(KeyboardInterrupt):
        lab.set("*", rotation="hadamard", smoothing=0.5)
    assert hooks(lab.model) == 0
    lab.undo()
    assert [row["values"] for row in Desk.of(lab)._views[-1].pane.shown("table")["rows"]] == before
