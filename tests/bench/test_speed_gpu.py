"""The speed bench on a GPU, as far as a CPU can tell: who takes part, what is judged, what is told and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from typer.testing import CliRunner

from quantlab.bench.speed import gpu, machine, records
from quantlab.bench.speed.clock import Timing
from quantlab.bench.speed.contenders import (
    BEST,
    CONTENDERS,
    FLASH,
    GPU_CONTENDERS,
    HALF,
    STOCK,
    STREAM,
    contenders,
    peer_of,
)
from quantlab.bench.speed.goals import GPU_GOALS, Ratio, verdicts
from quantlab.bench.speed.gpu import attentions, clock_of, flash_first
from quantlab.bench.speed.machine import graphics, slug
from quantlab.bench.speed.markdown import document
from quantlab.bench.speed.memory import part_of, read, write
from quantlab.bench.speed.ours import Garage
from quantlab.bench.speed.plan import CPU, DEVICES, GPU, SHAPES, Group, groups
from quantlab.bench.speed.records import Line, Record, digest
from quantlab.bench.speed.subject import Subject
from quantlab.cli import cli
from quantlab.errors import RecipeError
from quantlab.models import layers
from quantlab.models.layers import LayerScale

FORWARD = Group("vggt-1b", "forward", "forward", 8, 2, device=GPU)
FP8, INT8 = f"W8A8 fp8{STREAM}", f"W8A8 int_mm{STREAM}"
MADE = {
    "date": "2026-11-21T10:00:00+00:00",
    "command": "quantlab bench speed --device cuda",
    "cores": 16,
    "python": "3.11.7",
    "versions": {"torch": "2.13.0+cu130"},
    "load": 0.5,
    "processor": "NVIDIA H200",
    "instructions": ["compute capability 9.0", "driver 580.82.07", "CUDA 13.0"],
    "gpu": True,
    "host": "A processor",
}
DRIVER = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\nGCC version: 12.2.0\n"
)


def record(seconds, *, group=FORWARD, facts=None):
    lines = [
        Line(name, Timing((9.0,) * 3, (taken,) * 3), (facts or {}).get(name, {}))
        for name, taken in seconds.items()
    ]
    return Record(group, "digest", tuple(lines), MADE)


def test_a_gpu_is_asked_for_whole_forwards_and_memory_and_for_nothing_else():
    found = groups("vggt-1b", levels=DEVICES[GPU], frames=[2, 8], threads=[1, 4], device=GPU)
    assert [(group.level, group.size) for group in found] == [("forward", 2), ("forward", 8), ("memory", 2)]
    assert all(group.threads == 4 and group.wall and group.key.endswith(GPU) for group in found)
    with pytest.raises(RecipeError, match="forward, memory"):
        groups("vggt-1b", levels=["linear"], frames=[2], threads=[1], device=GPU)


def test_every_kernel_for_gpus_is_measured_beside_both_bfloat16_and_three_of_torchao():
    found = contenders(FORWARD)
    assert [contender.name for contender in found[:3]] == [STOCK, HALF, BEST]
    assert {contender.kernel for contender in found} == {"auto", "int_mm", "fp8", "int4_mm"}
    assert [peer_of(contender) for contender in found].count("torchao") == 3
    assert found[1].attention == FLASH
    packed = contenders(replace(FORWARD, level="memory"))
    assert [contender.name for contender in packed] == [STOCK, "packed W4A16 g128"]


def test_what_a_goal_on_a_gpu_names_takes_part_there():
    named = {contender.name for contender in GPU_CONTENDERS}
    assert len(named) == len(GPU_CONTENDERS)
    wanted = {name for goal in GPU_GOALS if isinstance(goal, Ratio) for name in (*goal.ours, *goal.others)}
    assert wanted <= named


def test_a_goal_is_judged_by_the_faster_of_fp8_and_int8_on_the_wall():
    found = verdicts([record({HALF: 3.0, BEST: 2.0, FP8: 2.5, INT8: 4.0})])
    flash, best = [verdict for verdict in found if ", 8 frames" in verdict.goal]
    assert (flash.outcome, flash.measured) == ("met", f"1.20x ({FP8} over {HALF})")
    assert best.outcome == "missed by 20 %"
    assert flash.threads is None
    assert {v.outcome for v in found if ", 16 frames" in v.goal} == {"not measured"}


def test_memory_on_a_gpu_is_judged_by_what_lies_there():
    facts = {"disk_bytes": 671e6, "weights_bytes": 690e6}
    group = replace(FORWARD, level="memory", part="memory", size=2)
    found = verdicts([record({"packed W4A16 g128": 1.0}, group=group, facts={"packed W4A16 g128": facts})])
    assert [verdict.outcome for verdict in found[-2:]] == ["met", "missed by 1 %"]


def test_the_table_of_a_gpu_has_wall_times_working_memory_and_attentions():
    facts = {
        HALF: {"attentions": {"FlashAttention": 72, "plain attention": 4}, "working_bytes": 2.5e9},
        FP8: {"kernels": {"fp8": 380}, "attention": "torch", "working_bytes": 2e9},
    }
    text = document([record({STOCK: 4.0, HALF: 0.2, FP8: 0.1}, facts=facts)])
    assert (
        "NVIDIA H200 (compute capability 9.0, driver 580.82.07, CUDA 13.0), 16 cores of A processor" in text
    )
    assert f"| {HALF} | 200 | 20.00 | 1.00 | 2500 | FlashAttention × 72, plain attention × 4 |" in text
    assert f"| {FP8} | 100 | 40.00 | 2.00 | 2000 | fp8 |" in text
    assert "## Forward, 8 frames (vggt-1b)" in text


def test_a_table_says_where_the_rounds_lie_far_apart():
    calm, wild = Timing((), (1.0, 1.0, 1.1, 1.0)), Timing((), (1.0, 1.0, 2.0, 2.0))
    lines = (Line(STOCK, calm), Line(HALF, wild))
    text = document([Record(FORWARD, "", lines, MADE)])
    assert f"| {STOCK} | 1000 | 1.00 |" in text
    assert f"| {HALF} | 1500 ±33 % |" in text


def test_a_table_of_a_single_round_says_so():
    once = Timing((1.0,), (1.0,))
    one = Record(replace(FORWARD, device=CPU, threads=1), "", (Line(STOCK, once),), MADE)
    two = Record(replace(FORWARD, device=CPU), "", (Line(STOCK, replace(once, wall=(1.0, 1.1))),), MADE)
    assert "One round (1 thr., CPU ms):" in document([one, two])
    assert "One round" not in document([two])


@pytest.mark.parametrize("rounds", [(), (3.0,), (2.0, 2.0, 2.0)])
def test_what_does_not_vary_has_no_spread(rounds):
    assert Timing(rounds, rounds).spread() == Timing(rounds, rounds).spread(wall=True) == 0


def test_a_gpu_is_told_by_name_capability_driver_and_cuda(monkeypatch):
    seen = SimpleNamespace(name="NVIDIA H200", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: seen)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert graphics(DRIVER)["instructions"] == MADE["instructions"]
    assert slug(graphics(DRIVER)) == "nvidia-h200-compute-capability-9-0-driver-580-82-07-cuda-13-0"
    assert slug(graphics("")) == "nvidia-h200-compute-capability-9-0-cuda-13-0"


def test_the_clock_of_a_gpu_waits_until_it_has_finished(monkeypatch):
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("here"))
    clock = clock_of(GPU)
    assert clock.wall() <= clock.wall()
    assert len(waited) == 2
    clock_of(CPU).wall()
    assert len(waited) == 2


def attention(dtype=torch.float32):
    qkv = torch.randn(3, 1, 2, 40, 16, dtype=dtype).unbind()
    return layers.scaled_dot_product_attention(*qkv)


def test_the_attention_that_torch_takes_is_counted_and_forced_ones_are_told():
    def plain():
        with sdpa_kernel(SDPBackend.MATH):
            attention()

    assert attentions(flash_first(attention)) == {"FlashAttention": 1}
    assert attentions(plain) == {"plain attention": 1}
    assert attentions(flash_first(lambda: [attention(), attention()])) == {"FlashAttention": 2}


def test_what_fails_while_it_is_counted_leaves_the_attention_as_it_was():
    usual = layers.scaled_dot_product_attention
    with pytest.raises(ZeroDivisionError):
        attentions(lambda: 1 / 0)
    assert layers.scaled_dot_product_attention is usual


@pytest.fixture(scope="module")
def garage():
    subject = Subject(Group("mini", "block", "block", 69, 1))
    for module in subject.module.modules():
        if isinstance(module, LayerScale):
            torch.nn.init.ones_(module.gamma)
    return Garage(subject)


@pytest.mark.parametrize("name", [HALF, BEST, INT8, f"W4A16 g128{STREAM}", f"W4A16 g128 int4_mm{STREAM}"])
def test_contenders_for_a_gpu_compute_the_same_on_a_cpu(garage, name):
    run, _ = garage.make(part_of(name, GPU))
    x = garage.subject.input
    expected, found = garage.subject.module(x) - x, run().float() - x
    assert (found - expected).norm() <= 0.35 * expected.norm()


def test_on_a_gpu_a_contender_is_told_with_its_attentions_and_memory(garage, monkeypatch):
    told = {"attentions": {"FlashAttention": 1}, "working_bytes": 7}
    monkeypatch.setattr("quantlab.bench.speed.ours.on_gpu", lambda run: told if run() is not None else {})
    monkeypatch.setattr(garage.subject, "group", replace(garage.subject.group, device=GPU))
    assert garage.make(part_of(BEST, GPU))[1].items() >= told.items()


def test_the_packed_network_of_a_gpu_is_written_and_run_by_int4_mm(tmp_path):
    part = part_of("packed W4A16 g128", GPU)
    write(part, tmp_path / "model", SHAPES["mini"].config)
    assert read(tmp_path / "model", part, "mini", 2)["kernels"]["int4_mm"] == 16


def test_records_of_before_there_were_devices_are_read_and_digests_of_cpus_are_as_they_were(tmp_path):
    group = replace(FORWARD, device=CPU)
    old = replace(record({STOCK: 1.0}), group=group)
    path = tmp_path / "old.json"
    records.write(old, path)
    data = json.loads(path.read_text())
    del data["group"]["device"]
    path.write_text(json.dumps(data))
    assert records.read(path) == old
    assert group.to_dict() == data["group"]
    assert FORWARD.to_dict()["device"] == GPU


def test_without_our_own_c_code_our_own_contenders_are_measured_again(monkeypatch):
    ours, stock = [one for one in CONTENDERS if one.name == BEST], list(CONTENDERS[:2])
    group = replace(FORWARD, device=CPU)
    found = {"ours": set(), "stock": set(), "on a GPU": set()}
    for lack in ("", "absent", "avx512"):
        monkeypatch.setattr(records, "native_lack", lambda lack=lack: lack)
        found["ours"].add(digest(group, ours, 1.0))
        found["stock"].add(digest(group, stock, 1.0))
        found["on a GPU"].add(digest(FORWARD, ours, 1.0))
    assert [len(digests) for digests in found.values()] == [3, 1, 1]


def test_the_switch_and_a_missing_library_are_a_lack(monkeypatch):
    from quantlab.kernels import native

    monkeypatch.setenv(native.SWITCH, "0")
    assert machine.native_lack() == "absent"
    monkeypatch.setattr(native, "library", object)
    monkeypatch.setenv(native.SWITCH, "avx512")
    assert machine.native_lack() == "avx512"
    monkeypatch.delenv(native.SWITCH)
    assert machine.native_lack() == ""


@pytest.mark.parametrize(("name", "word"), [("cuda", "no device 'cuda'"), ("tpu", "cpu, cuda")])
def test_a_device_that_is_not_there_is_refused_in_one_line(tmp_path, name, word):
    if name == GPU and torch.cuda.is_available():
        pytest.skip("there is one here")
    found = CliRunner().invoke(cli, ["bench", "speed", "--device", name, "--out", str(tmp_path)])
    assert found.exit_code == 2
    assert word in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


@pytest.mark.gpu
def test_a_real_run_on_a_gpu(tmp_path):
    typed = [
        "bench",
        "speed",
        "--device",
        "cuda",
        "--shapes",
        "mini",
        "--frames",
        "2",
        "--quick",
        "--peers",
        "none",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "quantlab.cli", *typed, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"| {FP8} |" in done.stdout
    assert "FlashAttention ×" in done.stdout
    assert "packed W4A16 g128" in done.stdout
    assert gpu.attentions(lambda: None) == {}
