"""Profiles survive a round trip, and no file can do more than be refused. No capture is tested here."""

from __future__ import annotations

import dataclasses
import pickle
import zipfile
from pathlib import Path

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
