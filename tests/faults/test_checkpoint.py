"""Faults C1 to C21 at the lab: a bad weight file leaves it alone, and the same path loads once the file is right."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import quantlab as ql
from quantlab.engine.quantize import Quantizer
from quantlab.errors import CheckpointError
from quantlab.models.checkpoint import open_checkpoint
from quantlab.models.model import Model

CAMERA = "aggregator.camera_token"
HUGE = b'"shape":[1099511627776,1099511627776]'


def framed(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


BYTES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "C1 empty": lambda header, body: b"",
    "C2 seven bytes": lambda header, body: b"1234567",
    "C3 length 2^63": lambda header, body: struct.pack("<Q", 1 << 63) + header + body,
    "C4 length beyond the file": lambda header, body: struct.pack("<Q", 1 << 30) + header + body,
    "C5 not UTF-8": lambda header, body: framed(b"\xff" + header, body),
    "C6 not JSON": lambda header, body: framed(header[:-40], body),
    "C6 a list": lambda header, body: framed(b"[]", body),
    "C7 interrupted": lambda header, body: framed(header, body[:-64]),
    "C8 trailing bytes": lambda header, body: framed(header, body + b"\0"),
    "C9 hole": lambda header, body: framed(
        re.sub(rb'(offsets":\[)0(,\d+)', rb"\g<1>4\2", header, count=1), body
    ),
    "C10 overflow": lambda header, body: framed(re.sub(rb'"shape":\[[^]]+\]', HUGE, header, count=1), body),
    "C11 unknown dtype": lambda header, body: framed(header.replace(b'"F32"', b'"F32X"', 1), body),
    "C12 duplicate": lambda header, body: framed(header.rstrip()[:-1] + f',"{CAMERA}":{{}}}}'.encode(), body),
    "C13 web page": lambda header, body: b"<!DOCTYPE html><title>404</title>" + bytes(900),
    "C13 LFS pointer": lambda header, body: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}


@pytest.fixture
def file(tmp_path: Path, save_weights) -> Path:
    return save_weights(tmp_path / "weights.safetensors")


def works(path: Path, lab: ql.Lab) -> None:
    """The file gives the network of the lab."""
    loaded = ql.load_model(path).network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in lab.model.network.state_dict().items())


@pytest.mark.parametrize("fault", BYTES)
def test_damaged_bytes_are_refused_and_the_path_works_once_they_are_right(
    lab, refused, file: Path, fault: str
) -> None:
    whole = file.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    file.write_bytes(BYTES[fault](whole[8 : 8 + length], whole[8 + length :]))
    with refused("weights.safetensors"):
        ql.load_model(file)
    file.write_bytes(whole)
    found, expected = open_checkpoint(file).tensors, lab.model.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


TENSORS = {
    "C15 another model": {CAMERA: None, "decoder.0.norm.weight": torch.ones(4)},
    "C16 one wrong shape": {CAMERA: torch.ones(1, 2, 1, 8)},
    "C18 codes for floats": {CAMERA: torch.ones(1, 2, 1, 24, dtype=torch.int8)},
    "C18 fp8": {CAMERA: torch.ones(1, 2, 1, 24).to(torch.float8_e4m3fn)},
    "C19 quantized already": {"camera_head.embed_pose.weight_scale": torch.ones(1)},
    "N1 NaN": {CAMERA: torch.full((1, 2, 1, 24), torch.nan)},
    "N2 infinity": {CAMERA: torch.full((1, 2, 1, 24), torch.inf)},
}


@pytest.mark.parametrize("fault", TENSORS)
def test_the_wrong_tensors_are_refused_and_the_path_works_with_the_right_ones(
    lab, refused, file: Path, save_weights, fault: str
) -> None:
    save_weights(file, **TENSORS[fault])
    with refused("weights.safetensors"):
        ql.load_model(file)
    save_weights(file)
    works(file, lab)


def test_c14_a_folder_is_refused_until_it_holds_weights(lab, refused, tmp_path: Path, save_weights) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with refused(str(folder)):
        ql.load_model(folder)
    save_weights(folder / "model.safetensors")
    works(folder, lab)


def test_c17_an_absent_shard_is_named_until_it_is_there(lab, refused, tmp_path: Path, save_weights) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    names = list(lab.model.network.state_dict())
    where = {name: "a.safetensors" if name == CAMERA else "b.safetensors" for name in names}
    save_weights(folder / "b.safetensors", **{CAMERA: None})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    with refused("a.safetensors"):
        ql.load_model(folder)
    save_weights(folder / "a.safetensors", **{name: None for name in names if name != CAMERA})
    works(folder, lab)


def test_c19_a_network_that_is_quantized_already_is_no_lab(lab, refused, make_lab) -> None:
    quantized = ql.quantize(lab.model.network, lab.recipe)
    with refused("blocks.0", "full-precision"):
        make_lab(Model(quantized))
    with refused("blocks.0"):
        ql.quantize(quantized, lab.recipe)
    assert make_lab().evaluate().full_precision.outputs


def test_c20_of_two_tied_layers_each_is_quantized_by_its_own_settings() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Sequential(nn.Linear(12, 12), nn.GELU()) for _ in range(2)))
    network[1][0].weight = network[0][0].weight
    tied = network[0][0].weight.clone()
    lab = ql.Lab(network, calibration=torch.randn(4, 12), recipe=ql.Recipe.preset("rtn"))
    lab.set("0.0", keep=True)
    assert lab.evaluate().full_precision.outputs["output"] > 0
    twin = lab._quantizer.network
    assert torch.equal(twin[0][0].weight, tied)
    assert not torch.equal(twin[1][0].weight, tied)
    assert torch.equal(network[0][0].weight, tied)


VERBS = ["evaluate", "diagnose", "profile", "compare", "reference"]


def test_c21_an_overwritten_weight_file_is_told_by_whatever_is_asked_next(make_lab, file: Path) -> None:
    bench = make_lab(ql.load_model(file))
    bench.evaluate()
    recipe, history = bench.recipe, bench.history
    whole = file.read_bytes()
    with file.open("r+b") as opened:
        opened.write(whole[:-400] + bytes(400))
    for verb in VERBS:
        fresh = make_lab(bench.model)
        with pytest.raises(CheckpointError, match=r"weights\.safetensors") as caught:
            getattr(fresh, verb)()
        assert "Load the model again" in caught.value.remedy
    assert (bench.recipe, bench.history) == (recipe, history)
    assert make_lab(ql.load_model(file)).evaluate().full_precision.outputs


def test_c21_a_weight_file_that_was_cut_short_is_told_before_a_page_of_it_is_read(
    make_lab, file: Path, monkeypatch
) -> None:
    bench = make_lab(ql.load_model(file))
    bench.reference()
    whole = file.read_bytes()
    os.truncate(file, 4096)  # reading what is no longer there would end the process with a bus error
    monkeypatch.setattr(Quantizer, "apply", lambda *_arguments: pytest.fail("weights were read"))
    with pytest.raises(CheckpointError, match="overwritten"):
        bench.evaluate()
    monkeypatch.undo()
    file.write_bytes(whole)
    assert make_lab(ql.load_model(file)).evaluate().full_precision.outputs


def test_c21_a_weight_file_that_was_replaced_by_renaming_does_no_harm(
    make_lab, file: Path, save_weights, tmp_path: Path
) -> None:
    bench = make_lab(ql.load_model(file))
    before = bench.evaluate().full_precision.outputs
    save_weights(tmp_path / "other.safetensors", **{CAMERA: torch.ones(1, 2, 1, 24)}).replace(file)
    assert make_lab(bench.model).evaluate().full_precision.outputs == before
    assert make_lab(ql.load_model(file)).evaluate().full_precision.outputs != before
