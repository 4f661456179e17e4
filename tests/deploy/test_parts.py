"""Stand-ins of what a runtime lacks or gets wrong, against what they stand for; files that belong together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quantlab.deploy.attention import traced_attention
from quantlab.deploy.files import settled
from quantlab.deploy.rotation import rotation_from_nine
from quantlab.errors import StorageError
from quantlab.models import pi3_heads
from quantlab.models.layers import Attention


@pytest.mark.parametrize("tokens", [4, 6])
def test_the_traced_attention_is_the_networks_own(tokens: int) -> None:
    torch.manual_seed(0)
    attention, x = Attention(32, 4, qk_norm=True).eval(), torch.randn(2, tokens, 32)
    with torch.no_grad():
        expected = attention(x)
        attention.core = traced_attention
        assert torch.allclose(attention(x), expected, atol=1e-6)


def test_the_rotation_by_squaring_is_the_one_by_singular_values() -> None:
    torch.manual_seed(0)
    noisy = torch.linalg.qr(torch.randn(200, 3, 3))[0].flatten(1) + 0.2 * torch.randn(200, 9)
    found = rotation_from_nine(noisy)
    assert torch.allclose(found, pi3_heads.rotation_from_nine(noisy), atol=1e-4)
    assert torch.allclose(found @ found.mT, torch.eye(3).expand(200, 3, 3), atol=1e-5)


def test_files_that_belong_together_come_together(tmp_path: Path) -> None:
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_text("old")
    with settled(tmp_path / "model.xml") as hidden:
        hidden.write_text("new")
        hidden.with_suffix(".bin").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "model.xml": "new",
        "model.bin": "new",
    }


def test_a_failure_leaves_the_old_files_whole(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("old")

    def half() -> None:
        with settled(tmp_path / "model.onnx") as hidden:
            hidden.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space"):
        half()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
