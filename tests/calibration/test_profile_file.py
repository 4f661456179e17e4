"""Profiles survive a round trip, and no file can do more than be refused. No capture is tested here."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quantlab.calibration import profile_file
from quantlab.calibration.capture import capture_profile
from quantlab.calibration.profile import Profile
from quantlab.errors import StorageError
from quantlab.models.structure import describe


@pytest.fixture(scope="module")
def profile() -> Profile:
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    return capture_profile(network, describe(network), None, [torch.randn(5, 6)], scenes=["räume <1>"])


def test_a_profile_comes_back_as_it_was(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path / "p.npz")
    back = Profile.load(tmp_path / "p.npz")
    assert back.scenes == profile.scenes
    assert list(back.layers) == list(profile.layers)
    for name, layer in profile.layers.items():
        for entry in dataclasses.fields(layer):
            if isinstance(value := getattr(layer, entry.name), np.ndarray):
                np.testing.assert_array_equal(getattr(back.layers[name], entry.name), value)
        for ours, theirs in ((layer.all, back.layers[name].all), (layer.weight, back.layers[name].weight)):
            numbers = [entry.name for entry in dataclasses.fields(ours) if entry.name != "histogram"]
            assert [getattr(ours, n) for n in numbers] == [getattr(theirs, n) for n in numbers]
            np.testing.assert_array_equal(ours.histogram.counts, theirs.histogram.counts)


@pytest.mark.bad_input
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>", pickle.dumps({"a": 1})])
def test_what_is_no_profile_is_refused_with_its_path(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        Profile.load(path)
    assert caught.value.place == str(path)


@pytest.mark.bad_input
def test_a_truncated_profile_is_refused(profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    profile.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StorageError):
        Profile.load(path)


@pytest.mark.bad_input
def test_a_file_that_would_fill_the_memory_is_refused_before_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_file, "MAX_BYTES", 1 << 20)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", bytes(2 << 20))
    assert path.stat().st_size < 1 << 14
    with pytest.raises(StorageError, match="gigabyte"):
        Profile.load(path)


@pytest.mark.bad_input
def test_pickled_arrays_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "pickled.npz"
    np.savez(path, header=np.array([{"format": 1}], dtype=object))
    with pytest.raises(StorageError):
        Profile.load(path)


@pytest.mark.bad_input
def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such profile"):
        Profile.load(tmp_path / "none.npz")


def rewritten(profile: Profile, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The file of a profile whose header somebody has edited."""
    profile.save(path)
    with np.load(path) as arrays:
        kept = dict(arrays)
    header = json.loads(kept["header"].tobytes())
    change(header)
    kept["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, **kept)
    return path


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["layers"][0].update(tokens=[]),
        lambda header: header["layers"][0].update(index=float("inf")),
        lambda header: header["layers"][0]["weight"].__setitem__(0, float("inf")),
        lambda header: header.update(layers=3),
        lambda header: header.update(layers=[3]),
        lambda header: header.update(scenes=None),
    ],
)
def test_a_header_that_was_edited_is_refused(
    profile: Profile, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(StorageError):
        Profile.load(rewritten(profile, tmp_path / "p.npz", change))


@pytest.mark.bad_input
@pytest.mark.parametrize("seed", range(40))
def test_a_profile_with_damaged_bytes_is_refused_or_read_and_nothing_else(
    profile: Profile, tmp_path: Path, seed: int
) -> None:
    path, random = tmp_path / "p.npz", np.random.default_rng(seed)
    profile.save(path)
    raw = bytearray(path.read_bytes())
    for place in random.integers(0, len(raw), 8):
        raw[place] = int(random.integers(256))
    path.write_bytes(raw)
    with contextlib.suppress(StorageError):
        Profile.load(path)


def unfinished() -> bytes:
    """A .npy array whose table is never closed, which only Python's tokenizer finds."""
    table = b"{'descr': '<f4', 'fortran_order':"
    return b"\x93NUMPY\x01\x00" + len(table).to_bytes(2, "little") + table


def enormous() -> bytes:
    """The head of a .npy array of 8 petabytes."""
    claim = io.BytesIO()
    np.lib.format.write_array_header_1_0(claim, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    return claim.getvalue()


@pytest.mark.bad_input
@pytest.mark.parametrize("array", [enormous, unfinished])
def test_an_array_whose_table_is_a_trap_is_refused(
    profile: Profile, tmp_path: Path, array: Callable[[], bytes]
) -> None:
    path = tmp_path / "p.npz"
    profile.save(path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, array() if name == "0.channel_max.npy" else data)
    with pytest.raises(StorageError):
        Profile.load(path)
