"""The folder of a packed checkpoint: whole or not there at all, and never believed without a look."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from quantlab.engine.recipe import Recipe
from quantlab.errors import CheckpointError, JobCancelledError, StorageError
from quantlab.jobs import Job
from quantlab.packed import manifest
from quantlab.packed.folder import ORPHAN_AGE_SECONDS, SUFFIX
from quantlab.packed.manifest import MANIFEST
from quantlab.packed.read import read_packed
from quantlab.packed.shards import Shards
from quantlab.packed.write import Source, write_packed

RECIPE = Recipe.preset("quarot", weights=4, activations=8, scope="all").set(
    "*", smoothing=0.5, compensation="on"
)


@pytest.fixture(autouse=True)
def quantized(bench) -> None:
    bench.quantizer.apply(RECIPE)


@pytest.fixture(scope="module")
def made(bench, tmp_path_factory) -> Path:
    """One checkpoint, to be copied."""
    bench.quantizer.apply(RECIPE)
    folder = tmp_path_factory.mktemp("made") / "packed"
    about = {"model": {"name": "small"}, "recipe": {}}
    write_packed(bench.quantizer.network, folder, Source(None, {}, about), rest="float32")
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A copy of it that may be harmed."""
    return Path(shutil.copytree(made, tmp_path / "packed"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def outputs(network, bench) -> torch.Tensor:
    with torch.no_grad():
        return network(bench.inputs[0])


# -- written whole ---------------------------------------------------------------------------------------------


def test_shards_are_no_larger_than_the_limit_and_give_the_same_network(bench, pack, reread):
    one, many = pack("one"), pack("many", shard_bytes=2000)
    shards = sorted(many.glob("*.safetensors"))
    assert len(shards) > 2
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    bodies = [{name: t.nbytes for name, t in load_file(path).items()} for path in shards]
    assert all(sum(body.values()) <= 2000 or len(body) == 1 for body in bodies)
    assert torch.equal(outputs(reread(one), bench), outputs(reread(many), bench))


def test_every_tensor_lies_where_its_numbers_may_and_whole_cache_lines_begin_on_one(tmp_path):
    given = {
        "odd": torch.zeros(3, dtype=torch.uint8),
        "wide": torch.zeros(5),
        "lines": torch.zeros(64, dtype=torch.int8),
        "half": torch.zeros(7, dtype=torch.bfloat16),
        "number": torch.tensor(4, dtype=torch.int64),
        "nothing": torch.zeros(0, 3),
    }
    with Shards(tmp_path) as shards:
        for name, tensor in given.items():
            shards.add(name, tensor)
        (file,) = shards.finish()
    raw = (tmp_path / file).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert (8 + length) % 64 == 0
    for name, tensor in given.items():
        start = 8 + length + header[name]["data_offsets"][0]
        assert start % (64 if name == "lines" else tensor.element_size()) == 0
    back = load_file(tmp_path / file)
    assert all(torch.equal(back[name], tensor) for name, tensor in given.items())


def test_equal_networks_give_equal_tensors_on_disk(pack):
    assert (pack("a") / "model.safetensors").read_bytes() == (pack("b") / "model.safetensors").read_bytes()


class Killed(BaseException):
    """Stands for whatever ends a process from outside."""


@pytest.mark.parametrize("error", [Killed, OSError(28, "No space left on device")])
def test_what_fails_on_the_way_leaves_nothing_and_the_old_checkpoint_whole(error, pack, tmp_path):
    before = content(pack())

    def fail(_folder: Path) -> dict[str, Any]:
        raise error

    with pytest.raises((Killed, StorageError)):
        pack(measure=fail, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]
    assert content(tmp_path / "packed") == before


def test_what_somebody_lays_into_the_folder_meanwhile_is_not_lost(pack, tmp_path):
    notes = tmp_path / "packed" / "notes.txt"

    def somebody(_folder: Path) -> dict[str, Any]:
        notes.parent.mkdir()
        notes.write_text("mine")
        return {}

    with pytest.raises(StorageError, match="not empty"):
        pack(measure=somebody)
    assert content(notes.parent) == {"notes.txt": b"mine"}
    assert list(tmp_path.iterdir()) == [notes.parent]


def test_a_cancelled_export_leaves_nothing(pack, tmp_path):
    job = Job(lambda job: job.cancel() if job.fraction > 0.5 else None)
    with pytest.raises(JobCancelledError):
        pack(job=job)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_goes_an_hour_later(pack, tmp_path):
    old, young, other = (tmp_path / f".{name}.x{SUFFIX}" for name in ("packed", "packed.y", "another"))
    for left in (old, young, other):
        left.mkdir()
        (left / "shard-0").write_bytes(b"half")
    then = time.time() - ORPHAN_AGE_SECONDS - 1
    os.utime(old, (then, then))
    os.utime(other, (then, then))
    pack()
    assert [left.exists() for left in (old, young, other)] == [False, True, True]


def test_only_a_packed_checkpoint_is_replaced_and_only_when_asked_for(bench, pack, reread, tmp_path):
    pack()
    with pytest.raises(StorageError, match="not empty"):
        pack()
    bench.quantizer.apply(Recipe.preset("rtn", weights=8, activations=8))
    assert torch.equal(outputs(reread(pack(overwrite=True)), bench), outputs(bench.quantizer.network, bench))
    (tmp_path / "mine").mkdir()
    pack("mine")  # an empty folder is free
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(StorageError, match="not empty"):
        pack("thesis", overwrite=True)
    (tmp_path / "packed" / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="not empty"):
        pack(overwrite=True)
    assert (tmp_path / "packed" / "notes.txt").exists()
    (tmp_path / "file").write_text("a file")
    with pytest.raises(StorageError, match="something else"):
        pack("file", overwrite=True)
    with pytest.raises(StorageError, match="does not exist"):
        pack("no/such/folder")
    for name in ("a\0b", "x" * 300):
        with pytest.raises(StorageError):
            pack(name)


# -- read with care --------------------------------------------------------------------------------------------


def flip(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 0x10
    path.write_bytes(raw)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of a weight": lambda folder: flip(folder / "model.safetensors", -5),
    "a bit of the header": lambda folder: flip(folder / "model.safetensors", 40),
    "cut short": lambda folder: os.truncate(folder / "model.safetensors", 5000),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "another config": lambda folder: flip(folder / "config.json", 30),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "half a manifest": lambda folder: os.truncate(folder / MANIFEST, 200),
    "a manifest of nothing": lambda folder: (folder / MANIFEST).write_text("[]"),
    "not text": lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe" * 9),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_folder_is_refused_in_words(damage, folder, reread):
    DAMAGE[damage](folder)
    with pytest.raises(CheckpointError) as refusal:
        reread(folder)
    assert refusal.value.place


def test_a_large_file_is_read_whole_only_when_asked_for(monkeypatch, bench, folder):
    monkeypatch.setattr(manifest, "HASHED_BYTES", 100)
    flip(folder / "model.safetensors", -5)
    read_packed(folder, network=bench.network)
    with pytest.raises(CheckpointError, match="sha256"):
        read_packed(folder, network=bench.network, verify=True)
    flip(folder / "model.safetensors", 40)
    with pytest.raises(CheckpointError, match="header"):
        read_packed(folder, network=bench.network)


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The folder with another manifest, as someone would write it who wants to be believed."""
    path = folder / MANIFEST
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


def layer(table: dict[str, Any]) -> dict[str, Any]:
    return table["layers"]["blocks.0.attn.qkv"]


def rotation(table: dict[str, Any]) -> dict[str, Any]:
    return layer(table)["parts"]["transforms.0"]


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "newer": lambda table: table.update(format=2),
    "a path": lambda table: table["files"].update({"../../etc/passwd": table["files"].pop("config.json")}),
    "an unknown layer": lambda table: table["layers"].update(ghost=layer(table)),
    "a layer too few": lambda table: table["layers"].pop("blocks.0.attn.qkv"),
    "another width": lambda table: layer(table).update(width=14),
    "other bits": lambda table: layer(table)["spec"]["fields"].update(bits=8),
    "no bits": lambda table: layer(table)["spec"]["fields"].update(bits=-1),
    "other groups": lambda table: layer(table)["spec"]["fields"].update(granularity="group", group_size=4),
    "a class": lambda table: rotation(table).update(kind="os.system"),
    "a method": lambda table: rotation(table)["plain"].update(forward="print"),
    "a hidden name": lambda table: rotation(table)["plain"].update(_buffers=3),
    "another rotation": lambda table: rotation(table)["plain"]["rotation"]["fields"].update(width=32),
    "a dtype": lambda table: layer(table).update(dtype="load"),
    "no record": lambda table: table["layers"].update({"blocks.0.attn.qkv": 7}),
    "a stand-in nowhere": lambda table: table["standins"].append(
        {"at": "ghost", "kind": "TappedInput", "tap": 1}
    ),
    "a stand-in of another kind": lambda table: table["standins"][0].update(kind="Module"),
    "no stand-in": lambda table: table["standins"].append(3),
    "a size in words": lambda table: table["files"]["config.json"].update(bytes="many"),
    "deep nesting": lambda table: table.update(recipe=json.loads("[" * 900 + "]" * 900)),
}


@pytest.mark.parametrize("harm", list(HOSTILE))
def test_a_manifest_that_lies_is_refused_in_words(harm, folder, reread):
    edited(folder, HOSTILE[harm])
    with pytest.raises(CheckpointError) as refusal:
        reread(folder)
    assert refusal.value.problem


def swap(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    """Exchange a tensor of the file, and make sizes and digests fit again."""
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(name, None)
    path = folder / "model.safetensors"
    path.unlink()
    with Shards(folder) as shards:
        for own, value in (tensors | ({} if tensor is None else {name: tensor})).items():
            shards.add(own, value)
        files = shards.finish()
    edited(folder, lambda table: table["files"].update({key: file.to_dict() for key, file in files.items()}))


QKV = "blocks.0.attn.qkv."


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        (QKV + "weight_packed", torch.zeros(48, 7, dtype=torch.uint8)),
        (QKV + "weight_packed", torch.zeros(48, 8)),
        (QKV + "weight_packed", None),
        (QKV + "weight_scale", torch.ones(47, 1)),
        (QKV + "weight_scale", torch.ones(48, 1, dtype=torch.float64)),
        (QKV + "weight_zero_point", torch.ones(48, 1, dtype=torch.uint8)),
        (QKV + "weight_shape", torch.tensor([16, 48])),
        (QKV + "bias", torch.zeros(49)),
        (QKV + "bias", None),
        (QKV + "transforms.1.divisor", torch.ones(15)),
        (QKV + "transforms.1.divisor", None),
        (QKV + "low_rank_down", torch.zeros(16, 2)),
        ("blocks.0.norm1.weight", torch.ones(17)),
        ("blocks.0.norm1.weight", torch.ones(16, dtype=torch.int32)),
        ("stowaway", torch.ones(3)),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_though_its_digest_is_right(name, tensor, folder, reread):
    swap(folder, name, tensor)
    with pytest.raises(CheckpointError):
        reread(folder)


def test_a_folder_that_was_copied_whole_is_the_same_checkpoint(bench, folder, reread):
    assert torch.equal(outputs(reread(folder), bench), outputs(bench.quantizer.network, bench))


def test_the_digests_of_all_files_are_those_of_their_bytes(pack):
    folder = pack(shard_bytes=2000)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    assert files.keys() == {path.name for path in folder.iterdir()} - {MANIFEST}
    for name, entry in files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
