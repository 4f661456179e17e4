"""The map of bits: every layer has one cell, where the map of the network has it."""

from __future__ import annotations

from quantlab.views.allotted import allotted, places


def test_every_layer_has_one_cell_and_rows_are_those_of_the_map(structure):
    names = list(structure.layers)
    found = places(reversed(names), structure)
    assert found["ids"] == names
    cells = [place for row in found["rows"] for place in row["cells"] if place >= 0]
    assert sorted(cells) == list(range(len(names)))
    assert len({len(row["cells"]) for row in found["rows"]}) == 1, "all rows are as long"
    blocks = {row["label"]: row["cells"] for row in found["rows"]}
    place = blocks["frame · fc2"][1]
    assert found["ids"][place] == "aggregator.frame_blocks.1.mlp.fc2"
    assert found["layers"][place] == "frame 1 · fc2"


def test_only_the_layers_asked_for_are_shown(structure):
    some = [name for name in structure.layers if ".global_blocks." in name]
    found = places(some, structure)
    assert found["ids"] == some
    assert all(row["label"].startswith("global") for row in found["rows"])
    assert places([], structure) == {"layers": [], "ids": [], "rows": []}


def test_a_layer_without_bits_is_in_full_precision():
    assert allotted({"a": 4, "c": 2}, ["a", "b", "c"]) == [4, 16, 2]
