"""Shipped files are found in a checkout and in an installed wheel, and no name leads out of their folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from quantlab import assets
from quantlab.assets import asset
from quantlab.errors import StorageError

ROOT = Path(__file__).parents[1]


def test_the_checkout_comes_first_and_the_wheel_second(tmp_path: Path, monkeypatch) -> None:
    checkout, wheel = tmp_path / "assets", tmp_path / "_assets"
    monkeypatch.setattr(assets, "FOLDERS", (checkout, wheel))
    wheel.mkdir()
    (wheel / "a.bin").touch()
    assert asset("a.bin") == wheel / "a.bin"
    checkout.mkdir()
    (checkout / "a.bin").touch()
    assert asset("a.bin") == checkout / "a.bin"


def test_a_missing_file_says_where_it_should_be(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(assets, "FOLDERS", (tmp_path,))
    with pytest.raises(StorageError, match="missing") as caught:
        asset("a.bin")
    assert caught.value.place == str(tmp_path / "a.bin")
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["", "../pyproject.toml", "/etc/passwd", "a/../../b"])
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    with pytest.raises(StorageError, match="no name of a built-in file"):
        asset(name)


@pytest.mark.parametrize("record", sorted((ROOT / "assets").rglob("*.json")), ids=lambda path: path.stem)
def test_every_record_tells_size_licence_and_sha256_of_its_file(record: Path) -> None:
    told = json.loads(record.read_text())
    content = (record.parent / told["file"]).read_bytes()
    assert told["licence"]
    assert told["bytes"] == len(content)
    assert told["sha256"] == hashlib.sha256(content).hexdigest()


def test_every_asset_has_a_record() -> None:
    files = [path for path in (ROOT / "assets").rglob("*") if path.is_file()]
    told = {json.loads(path.read_text())["file"] for path in files if path.suffix == ".json"}
    unrecorded = [
        path.name for path in files if path.suffix not in {".json", ".md"} and path.name not in told
    ]
    assert not unrecorded
