"""Faults D1 to D8 that a machine without a GPU can show: memory, devices and libraries that are not there."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import quantlab as ql
from quantlab.app import server
from quantlab.engine import decisions, fisher_data, reconstruct, stages
from quantlab.errors import DeviceError
from quantlab.models import layers
from quantlab.models.vggt import VGGT

RECIPE = ql.Recipe.preset("quantvggt")
LAYER = "aggregator.frame_blocks.1.mlp.fc2"


def exhausted(*_arguments: object, **_settings: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def host_exhausted(*_arguments: object, **_settings: object) -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")


ASK: dict[str, Callable[[ql.Lab], object]] = {
    "calibration": lambda lab: lab.profile(),
    "diagnosis": lambda lab: lab.diagnose(),
    "evaluation": lambda lab: lab.evaluate(),
    "comparison": lambda lab: lab.compare(),
    "one layer": lambda lab: lab.layer(LAYER),
}


@pytest.mark.parametrize(
    ("what", "error"), [*((what, exhausted) for what in ASK), ("evaluation", host_exhausted)]
)
def test_d1_out_of_memory_while_a_scene_runs_says_sizes_and_the_next_run_works(
    make_lab, refused, monkeypatch, what: str, error: Callable[..., None]
) -> None:
    bench = make_lab(recipe=RECIPE)
    with refused("32, 32", lab=bench) as caught, monkeypatch.context() as broken:
        broken.setattr(layers, "scaled_dot_product_attention", error)
        ASK[what](bench)
    assert caught.type is DeviceError
    assert ASK[what](bench) is not None


MAKING = {
    "quantized": ("quantvggt", stages, "build_layer"),
    "learned": ("quantvggt", reconstruct, "batches_of"),
    "measured": ("qvggt", decisions, "build_layer"),
    "rounded for gradients": ("taptq", fisher_data, "build_layer"),
}


@pytest.mark.parametrize("what", ["evaluation", "one layer"])
@pytest.mark.parametrize("moment", MAKING)
def test_d1_out_of_memory_while_a_layer_is_made_names_where_and_the_next_run_works(
    make_lab, refused, monkeypatch, what: str, moment: str
) -> None:
    preset, *where = MAKING[moment]
    bench = make_lab(recipe=ql.Recipe.preset(preset))
    with refused("aggregator.frame_blocks.0", lab=bench) as caught, monkeypatch.context() as broken:
        broken.setattr(*where, exhausted)
        ASK[what](bench)
    assert caught.type is DeviceError
    assert ASK[what](bench) is not None


def test_d1_out_of_memory_while_loading_says_the_size_and_the_next_load_works(
    refused, monkeypatch, save_weights, tmp_path: Path
) -> None:
    path = save_weights(tmp_path / "weights.safetensors")
    with refused("GB", "device='cpu'") as caught, monkeypatch.context() as broken:
        broken.setattr(VGGT, "to", exhausted)
        ql.load_model(path)
    assert caught.type is DeviceError
    assert ql.load_model(path)


@pytest.mark.parametrize("device", ["cuda:99", "abacus", "", "cpu:x"])
def test_d2_a_device_that_is_not_there_is_refused_and_the_cpu_works(
    refused, save_weights, tmp_path: Path, device: str
) -> None:
    path = save_weights(tmp_path / "weights.safetensors")
    with refused("device='cpu'"):
        ql.load_model(path, device=device)
    assert ql.load_model(path, device="cpu")


@pytest.mark.parametrize("dtype", ["float8", "int4", "", "bf16"])
def test_d4_arithmetic_that_is_not_offered_is_refused_with_what_is(
    refused, save_weights, tmp_path: Path, dtype: str
) -> None:
    path = save_weights(tmp_path / "weights.safetensors")
    with refused("bfloat16"):
        ql.load_model(path, dtype=dtype)
    assert ql.load_model(path, dtype="bfloat16")


def test_d6_no_free_port_is_said_and_a_free_one_is_found(refused, monkeypatch) -> None:
    class Taken(socket.socket):
        def bind(self, _address: object) -> None:
            raise OSError(errno.EADDRINUSE, "Address already in use")

    with refused("--port"), monkeypatch.context() as broken:
        broken.setattr(server.socket, "socket", Taken)
        server.bind(30_000)
    listener, port = server.bind(30_000)
    assert listener.getsockname() == ("127.0.0.1", port)
    listener.close()


def test_d7_without_open3d_only_the_cloud_scores_are_absent_and_say_why(
    make_lab, unchanged, monkeypatch
) -> None:
    bench = make_lab()
    with unchanged(bench), monkeypatch.context() as broken:
        broken.setitem(sys.modules, "open3d", None)
        evaluation = bench.evaluate(icp=True)
    assert evaluation.ground_truth.auc30 is not None
    assert evaluation.ground_truth.accuracy is None
    assert any("open3d" in problem for problem in evaluation.problems)


def test_d7_without_network_a_released_model_says_where_to_put_its_file(
    refused, monkeypatch, tmp_path: Path
) -> None:
    import huggingface_hub

    def unreachable(*_arguments: object, **_settings: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setenv("QUANTLAB_MODELS", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with refused("cannot be downloaded", str(tmp_path / "vggt-1b.safetensors")):
        ql.load_model("vggt-1b")
