"""Pictures in, network input out: the published loader bit for bit, and pictures that are turned, huge or broken."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from quantlab.errors import SceneError
from quantlab.models.preprocess import preprocess

GOLDEN = Path(__file__).parent.parent / "golden" / "preprocess_small.safetensors"
with safe_open(GOLDEN, "pt") as _file:
    TENSORS = {name: _file.get_tensor(name) for name in _file.keys()}  # noqa: SIM118
    DIGESTS: dict[str, str] = json.loads(_file.metadata()["sha256"])
CASES = {
    "vggt_crop_src0": ("crop", ["src0"]),
    "vggt_crop_src1": ("crop", ["src1"]),
    "vggt_crop_src2": ("crop", ["src2"]),
    "vggt_crop_src3": ("crop", ["src3"]),
    "vggt_pad_src0": ("pad", ["src0"]),
    "vggt_pad_src1": ("pad", ["src1"]),
    "vggt_pad_src3": ("pad", ["src3"]),
    "vggt_crop_mixed_src0_src3_src1": ("crop", ["src0", "src3", "src1"]),
    "vggt_crop_rgba": ("crop", ["src_rgba"]),
    "pi3_src0_src0": ("pixels", ["src0", "src0"]),
    "pi3_src1_src0": ("pixels", ["src1", "src0"]),
    "pi3_src2_src0": ("pixels", ["src2", "src0"]),
}


def as_bytes(tensor: Tensor) -> bytes:
    return (tensor[0] * 255).round().to(torch.uint8).contiguous().numpy().tobytes()


@pytest.mark.parametrize("case", CASES)
def test_crop_pad_and_pixels_equal_the_published_loaders_bit_for_bit(case: str) -> None:
    mode, sources = CASES[case]
    found = preprocess([TENSORS[source].numpy() for source in sources], mode=mode)  # type: ignore[arg-type]
    if case in TENSORS:
        assert torch.equal(found[0], TENSORS[case].float() / 255)
    else:
        assert hashlib.sha256(as_bytes(found)).hexdigest() == DIGESTS[case]


def gradient(height: int, width: int) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return np.stack((rows * 255 // height, columns * 255 // width, rows * 0), axis=-1).astype(np.uint8)


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    upright = gradient(40, 60)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    turned.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(preprocess([tmp_path / "turned.png"]), preprocess([upright]))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "LA", "I;16"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(gradient(32, 32)[..., 0])
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256)
    else:
        picture = (grey.convert("RGB") if mode == "CMYK" else grey).convert(mode)
    path = tmp_path / ("picture.tif" if mode in ("CMYK", "I;16") else "picture.png")
    picture.save(path)
    found = preprocess([path], size=28)
    assert found.shape == (1, 1, 3, 28, 28)
    torch.testing.assert_close(found, preprocess([grey.convert("RGB")], size=28), atol=2 / 255, rtol=0)


def test_square_mode_leaves_a_picture_of_the_right_size_untouched() -> None:
    picture = gradient(96, 96)
    found = preprocess([picture], size=96, patch_size=12, mode="square")
    assert np.array_equal((found[0, 0] * 255).round().byte().permute(1, 2, 0).numpy(), picture)


def test_square_mode_takes_the_centre() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert (preprocess([wide], size=20, patch_size=10, mode="square") == 1).all()


def test_sides_are_multiples_of_the_patch_and_mixed_sizes_are_padded_with_white() -> None:
    found = preprocess([gradient(33, 70), gradient(70, 70)], size=56)
    assert found.shape == (1, 2, 3, 56, 56)
    assert (found[0, 0, :, 0] == 1).all()


@pytest.mark.parametrize("shape", [(40, 640), (640, 40), (700, 700), (1, 1), (480, 853)])
def test_pixels_mode_stays_within_its_budget_in_whole_patches(shape: tuple[int, int]) -> None:
    height, width = preprocess([gradient(*shape)], mode="pixels").shape[-2:]
    assert height % 14 == width % 14 == 0
    assert 0.8 * 255_000 < height * width <= 255_000


def test_broken_and_extreme_pictures_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    Image.fromarray(gradient(64, 64)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:500])
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    Image.new("RGB", (1, 400)).save(tmp_path / "narrow.png")
    for name in ("empty.jpg", "text.jpg", "cut.jpg", "large.png", "narrow.png", "absent.png"):
        with pytest.raises(SceneError, match=name):
            preprocess([tmp_path / name])


def test_wrong_arrays_and_counts_are_refused() -> None:
    for images in (
        [],
        [gradient(8, 8)] * 1001,
        [np.zeros((8, 8, 3), np.float32)],
        [np.zeros((0, 8, 3), np.uint8)],
    ):
        with pytest.raises(SceneError):
            preprocess(images)
