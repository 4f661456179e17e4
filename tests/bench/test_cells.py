"""Cells and their files: what makes two cells the same, and that a file is whole or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quantlab.bench import cells
from quantlab.bench.cells import Cell, Measured, record
from quantlab.bench.protocol import Bits, Extent, Protocol
from quantlab.bench.rows import rows
from quantlab.errors import RecipeError, SceneError

W4A4 = Bits(4, 4)


def cell(method="rtn", seed=0, **changes):
    base = Cell("mini", method, W4A4, seed, rows()[method].recipe(W4A4, seed).to_dict(), Protocol(), "abc")
    return replace(base, **changes)


def test_the_digest_changes_with_recipe_seed_protocol_and_weights():
    same = {cell().digest, cell().digest}
    others = {
        cell("quarot").digest,
        cell(seed=1).digest,
        cell(protocol=Protocol(rooms=31)).digest,
        cell(protocol=Protocol(seed=8)).digest,
        cell(protocol=Protocol(device="cuda")).digest,
        cell(weights="abd").digest,
    }
    assert len(same) == 1
    assert len(same | others) == 7


def test_a_new_name_alone_does_not_change_the_digest():
    renamed = {**cell().recipe, "name": "another"}
    assert cell(recipe=renamed).digest == cell().digest


def test_more_clouds_than_rooms_are_the_same_measurement():
    assert Protocol(rooms=5, icp_rooms=9).to_dict() == Protocol(rooms=5, icp_rooms=5).to_dict()


def test_a_record_comes_back_from_its_file(tmp_path, made):
    found = made()
    path = tmp_path / "a" / "b" / "0.json"
    cells.write(found, path)
    back = cells.read(path)
    assert back.to_dict() == cells.read(path).to_dict()
    assert back.measured.rooms["drift"] == [0.01, 0.03]
    assert (back.bits, back.digest, back.state) == (found.bits, found.digest, "done")


def test_what_is_not_finite_is_stored_as_absent(tmp_path):
    measured = Measured({"tre": float("nan")}, {"drift": [float("inf"), 1.0]})
    path = tmp_path / "0.json"
    cells.write(record(cell(), seconds=1.0, made={}, measured=measured), path)
    assert cells.read(path).measured.rooms["drift"] == [None, 1.0]
    assert cells.read(path).measured.metrics["tre"] is None


@pytest.mark.parametrize(
    ("whole", "other"),
    [
        ('"seed": 0', '"seed": "0"'),
        ("0.03", '"x"'),
        ("0.03", "9" * 400),
        ('"made": {', '"made": [], "digest": {'),
    ],
)
def test_a_record_with_a_value_of_another_kind_is_none(tmp_path, made, whole, other):
    path = tmp_path / "0.json"
    cells.write(made(), path)
    text = path.read_text()
    assert cells.read(path) is not None
    assert whole in text
    path.write_text(text.replace(whole, other, 1))
    assert cells.read(path) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"measured": 3}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_file_is_no_record(tmp_path, content):
    path = tmp_path / "0.json"
    path.write_bytes(content)
    assert cells.read(path) is None


@pytest.mark.parametrize("text", ["", "W4", "4/4", "W9A4", "W4A1", "W4A44"])
def test_bits_that_are_not_offered_are_refused(text):
    with pytest.raises(RecipeError):
        Bits.parse(text)


def test_bits_are_read_as_they_are_written():
    assert Bits.parse(" w4a16 ") == Bits(4, 16)
    assert str(Bits.parse("W8A8")) == "W8A8"


def test_a_protocol_without_rooms_is_refused():
    with pytest.raises(SceneError):
        Protocol(rooms=0)


def test_the_headline_never_has_fewer_rooms_and_only_two_columns_have_several_seeds():
    extent = Extent(Protocol(rooms=30), headline_rooms=10, seeds=3)
    assert extent.of(W4A4).rooms == 30
    assert Extent(Protocol(rooms=30)).of(W4A4).rooms == 100
    assert Extent(Protocol(rooms=30)).of(Bits(8, 8)).rooms == 30
    assert [len(extent.seeds_of(bits)) for bits in extent.columns] == [1, 1, 3, 3, 1]
