"""What layers are called where there is little room."""

from __future__ import annotations

from types import SimpleNamespace

from quantlab.views.names import distinct_names, short_name, short_text


def test_short_names_are_distinct_so_that_the_table_can_be_read_back(structure):
    layers = structure.layers.values()
    assert len({short_name(layer) for layer in layers}) == len(layers)


def test_two_layers_that_would_be_called_alike_keep_their_full_names():
    layers = [
        SimpleNamespace(name=name, kind="fc1", stream="vit", index=-1)
        for name in ("a.b.x.y", "a.c.x.y", "a.z")
    ]
    assert list(distinct_names(layers).values()) == ["a.b.x.y", "a.c.x.y", "a.z"]


def test_what_runs_is_told_in_short_names(structure):
    told = short_text("quantize aggregator.global_blocks.1.mlp.fc2, blocks of 3", structure)
    assert told == "quantize global 1 · fc2, blocks of 3"
    assert short_text("aggregator.frame_blocks.0.attn", structure) == "frame 0 attn"
