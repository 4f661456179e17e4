"""The widgets over the real `Lab`, on a module so small that it costs nothing. The pictures are tested elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quantlab import widgets
from quantlab.engine.recipe import Recipe
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
