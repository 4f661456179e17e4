"""Weight files that are damaged, hostile or made for another model: each refused by name, with nothing half loaded."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import quantlab as ql
from quantlab.errors import CheckpointError, NumericError
from quantlab.models.assign import network_for
from quantlab.models.checkpoint import open_checkpoint
from quantlab.models.networks import build_model
from quantlab.models.zoo import load_model

CONFIG = {
    "aggregator": {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 1},
    "vit": {"embed_dim": 16, "depth": 1, "num_heads": 1},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
}
METADATA = {"config": json.dumps(CONFIG), "kind": "vggt"}


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(build_model("vggt", CONFIG).state_dict())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.safetensors"
    save_file(weights(), path, metadata=METADATA)
    return path


def with_header(path: Path, change: Callable[[bytes], bytes]) -> Path:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = change(content[8 : 8 + length])
    out = path.with_name("bad.safetensors")
    out.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
    return out


def with_table(path: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> Path:
    def edit(raw: bytes) -> bytes:
        table = json.loads(raw)
        change(table)
        return json.dumps(table).encode()

    return with_header(path, edit)


def written(path: Path, content: bytes) -> Path:
    out = path.with_name("bad.safetensors")
    out.write_bytes(content)
    return out


CAMERA = "aggregator.camera_token"
FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty file": (lambda p: written(p, b""), "empty"),
    "seven bytes": (lambda p: written(p, b"1234567"), "7 bytes"),
    "header length of 2^63": (lambda p: written(p, struct.pack("<Q", 1 << 63) + b"{}"), "damaged"),
    "header beyond the file": (lambda p: written(p, struct.pack("<Q", 5000) + b"{}"), "damaged"),
    "header not UTF-8": (lambda p: with_header(p, lambda raw: b"\xff\xfe" + raw), "UTF-8"),
    "header not JSON": (lambda p: with_header(p, lambda raw: raw[:-40]), "JSON"),
    "header deeply nested": (lambda p: with_header(p, lambda _: b"[" * 100_000), "JSON"),
    "header a list": (lambda p: with_header(p, lambda _: b"[]"), "not a table"),
    "truncated body": (lambda p: written(p, p.read_bytes()[:-64]), "64 bytes early"),
    "trailing bytes": (lambda p: written(p, p.read_bytes() + b"\0" * 5), "5 bytes follow"),
    "overlap": (lambda p: with_table(p, lambda t: t[CAMERA].update(data_offsets=[4, 132])), "hole|overlaps"),
    "shape that overflows": (
        lambda p: with_table(p, lambda t: t[CAMERA].update(shape=[1 << 40, 1 << 40])),
        "do not agree",
    ),
    "shape that overflows beside a zero": (
        lambda p: with_table(
            p, lambda t: t.update(x={"dtype": "F32", "shape": [0, 1 << 62, 2], "data_offsets": [0, 0]})
        ),
        "too large",
    ),
    "negative shape": (lambda p: with_table(p, lambda t: t[CAMERA].update(shape=[-1, -32])), "whole numbers"),
    "unknown dtype": (lambda p: with_table(p, lambda t: t[CAMERA].update(dtype="F128")), "'F128'"),
    "malformed entry": (lambda p: with_table(p, lambda t: t.update({CAMERA: {}})), "malformed"),
    "duplicate key": (
        lambda p: with_header(p, lambda raw: raw.rstrip()[:-1] + f',"{CAMERA}":{{}}}}'.encode()),
        "appears twice",
    ),
    "web page": (lambda p: written(p, b"<!DOCTYPE html><html>" + b" " * 900), "web page"),
    "LFS pointer": (lambda p: written(p, b"version https://git-lfs.github.com/spec/v1\noid"), "Git-LFS"),
    "pickle under the wrong name": (lambda p: written(p, b"PK\x03\x04" + b"\0" * 90), "PyTorch checkpoint"),
    "absent": (lambda p: p.with_name("absent.safetensors"), "no such"),
    "other ending": (lambda p: Path(shutil.copy(p, p.with_suffix(".ckpt"))), "ending"),
    "folder without weights": (lambda p: Path(p.parent / "sub").mkdir() or p.parent / "sub", "neither"),  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_refused_by_name_and_the_good_one_still_loads(good: Path, fault: str) -> None:
    make, words = FAULTS[fault]
    bad = make(good)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_model(bad)
    assert str(bad) in caught.value.place
    assert load_model(good).name == "good.safetensors"


@pytest.mark.parametrize("name", ["x" * 5000, "a/" + "x" * 5000, "nul\0", "folder/nul\0"])
@pytest.mark.parametrize("load", [load_model, ql.load_model])
def test_a_name_that_can_be_no_file_is_refused_in_a_short_message(load: Callable, name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(name)
    assert len(str(caught.value)) < 300


def test_the_header_check_agrees_with_what_was_saved(good: Path) -> None:
    found, expected = open_checkpoint(good).tensors, weights()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_are_mapped_and_writing_to_them_never_reaches_the_file(good: Path) -> None:
    before = good.read_bytes()
    network = load_model(good).network
    with torch.no_grad():
        network.aggregator.camera_token.fill_(7)
    assert good.read_bytes() == before


def test_a_header_of_odd_length_is_read_all_the_same(good: Path) -> None:
    content = good.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    odd = content[8 : 8 + length].rstrip()
    odd += b" " * (1 - len(odd) % 2)
    path = good.with_name("odd.safetensors")
    path.write_bytes(struct.pack("<Q", len(odd)) + odd + content[8 + length :])
    assert all(torch.equal(t, weights()[n]) for n, t in open_checkpoint(path).tensors.items())


def test_a_file_without_permission_is_refused(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Taking the permission away would not stop the administrator, as whom tests often run.
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(CheckpointError, match="permissions"):
        open_checkpoint(good)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.bool])
def test_numbers_that_are_no_floats_are_refused(good: Path, dtype: torch.dtype) -> None:
    changed = weights()
    changed[CAMERA] = changed[CAMERA].to(dtype)
    save_file(changed, good, metadata=METADATA)
    with pytest.raises(CheckpointError, match="float is expected"):
        load_model(good)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(good: Path, dtype: torch.dtype) -> None:
    save_file({name: tensor.to(dtype) for name, tensor in weights().items()}, good, metadata=METADATA)
    network = load_model(good).network
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert torch.equal(
        network.aggregator.patch_embed.pos_embed,
        weights()["aggregator.patch_embed.pos_embed"].to(dtype).float(),
    )


def test_weights_of_another_model_are_listed_as_missing_and_unexpected(good: Path) -> None:
    changed = weights()
    changed["decoder.0.norm.weight"] = changed.pop(CAMERA)
    save_file(changed, good, metadata=METADATA)
    with pytest.raises(
        CheckpointError, match=r"1 missing \(aggregator\.camera_token\).*1 unexpected \(decoder"
    ):
        load_model(good)
    save_file(weights(), good)
    with pytest.raises(CheckpointError, match="missing"):
        load_model(good)


def test_a_wrong_shape_is_named(good: Path) -> None:
    changed = weights()
    changed[CAMERA] = changed[CAMERA][..., :8].contiguous()
    save_file(changed, good, metadata=METADATA)
    with pytest.raises(CheckpointError, match=r"camera_token.*\[1, 2, 1, 8\] instead of \[1, 2, 1, 16\]"):
        load_model(good)


def test_a_quantized_checkpoint_is_not_quantized_again(good: Path) -> None:
    save_file(weights() | {"camera_head.embed_pose.weight_scale": torch.ones(1)}, good, metadata=METADATA)
    with pytest.raises(CheckpointError, match="quantized already"):
        load_model(good)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(good: Path, value: float) -> None:
    changed = weights()
    changed[CAMERA][0, 0, 0, 3] = value
    save_file(changed, good, metadata=METADATA)
    with pytest.raises(NumericError, match="camera_token"):
        load_model(good)


def test_a_metadata_config_that_is_no_config_is_refused(good: Path) -> None:
    for config in ("[]", "{", '{"decoder": 1}', '{"aggregator": {"depth": 1000000}}'):
        save_file(weights(), good, metadata={"config": config})
        with pytest.raises(CheckpointError):
            load_model(good)


def shard(folder: Path, parts: int = 2) -> Path:
    folder.mkdir()
    state = weights()
    where = {name: f"model-{i % parts}.safetensors" for i, name in enumerate(state)}
    for file in set(where.values()):
        save_file({n: t for n, t in state.items() if where[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_a_folder_of_shards_loads_like_one_file(tmp_path: Path, good: Path) -> None:
    found = load_model(shard(tmp_path / "shards")).network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights().items())


def test_an_absent_or_outside_shard_is_named(tmp_path: Path) -> None:
    folder = shard(tmp_path / "shards")
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-1\.safetensors' is absent"):
        load_model(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../good.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"no \.safetensors file of this folder"):
        load_model(folder)
    index.write_text(json.dumps({"weight_map": {"x": "model-0.safetensors"}}))
    with pytest.raises(CheckpointError, match="disagree"):
        load_model(folder)


class Explosive:
    """What a hostile pickle holds."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_hostile_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Explosive()}, "zip.pt")
    Path("plain.pt").write_bytes(pickle.dumps(Explosive()))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(CheckpointError):
            load_model(tmp_path / name)
    assert not Path("exploded").exists()


def test_a_compressed_or_cut_pt_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 1_000_000)
    with pytest.raises(CheckpointError, match="compressed"):
        load_model(tmp_path / "bomb.pt")
    torch.save(weights(), tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-300])
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "cut.pt")
    torch.save(weights(), tmp_path / "disks.pt")
    content = bytearray((tmp_path / "disks.pt").read_bytes())
    locator = content.rindex(b"PK\x06\x07")
    content[locator + 16] = 9  # of so many disks
    (tmp_path / "disks.pt").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "disks.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="state dict"):
        load_model(tmp_path / "list.pt")


def test_a_pt_file_with_tied_weights_loads_untied(tmp_path: Path) -> None:
    state = weights()
    block = "aggregator.frame_blocks.0"
    state[f"{block}.norm2.weight"] = state[f"{block}.norm1.weight"]
    torch.save({"model": state}, tmp_path / "tied.pt")
    tensors = open_checkpoint(tmp_path / "tied.pt").tensors
    tensors[f"{block}.norm1.weight"].fill_(3)
    assert (tensors[f"{block}.norm2.weight"] == 1).all()


def test_a_file_overwritten_in_use_is_noticed_and_a_replaced_one_does_no_harm(good: Path) -> None:
    model = load_model(good)
    pictures = model.preprocess([torch.zeros(16, 16, 3, dtype=torch.uint8).numpy()])
    before = model.run(pictures)["pose_enc"]
    other = good.with_name("other.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights().items()}, other, metadata=METADATA)
    content = other.read_bytes()
    other.replace(good)
    assert torch.equal(model.run(pictures)["pose_enc"], before)
    again = load_model(good)
    with good.open("r+b") as file:
        file.write(content)
    os.utime(good, ns=(1, 1))
    with pytest.raises(CheckpointError, match="overwritten"):
        again.run(pictures)


def test_nothing_is_allocated_for_a_file_that_does_not_fit(good: Path) -> None:
    checkpoint = open_checkpoint(good)
    kind, network = network_for(checkpoint)
    assert kind == "vggt"
    assert network.state_dict()[CAMERA].data_ptr() == checkpoint.tensors[CAMERA].data_ptr()
