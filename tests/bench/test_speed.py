"""The speed bench with clocks and contenders of the tests' own: rounds, ratios, reasons, goals, files, tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.bench.speed import run as runs
from quantlab.bench.speed.child import Order, measure
from quantlab.bench.speed.clock import Clock, Timing, interleave
from quantlab.bench.speed.contenders import BEST, CONTENDERS, HALF, STOCK, STREAM, contenders, peer_of
from quantlab.bench.speed.goals import GOALS, Ratio, outcome, verdicts
from quantlab.bench.speed.machine import processor, slug
from quantlab.bench.speed.markdown import document
from quantlab.bench.speed.plan import Group, groups
from quantlab.bench.speed.records import Line, Record, path_of, read, write
from quantlab.bench.speed.render import render
from quantlab.bench.speed.run import Request
from quantlab.errors import MissingLibraryError, RecipeError, StorageError

FORWARD = Group("vggt-1b", "forward", "forward", 2, 1)
LINEAR = Group("mini", "linear", "qkv", 69, 1)
MADE = {
    "date": "2026-11-20T10:00:00+00:00",
    "command": "quantlab bench speed",
    "processor": "A processor",
    "instructions": ["AVX2"],
    "cores": 2,
    "python": "3.11.7",
    "versions": {"torch": "2.13.0"},
    "load": 0.5,
}


class Day:
    """A clock that only its own tasks move; each takes so many seconds, times what the machine does besides."""

    def __init__(self) -> None:
        self.now, self.load = 0.0, 1.0
        self.clock = Clock(lambda: self.now, lambda: self.now)
        self.order: list[str] = []

    def task(self, name: str, seconds: float):
        def run() -> None:
            self.order.append(name)
            self.now += seconds * self.load

        return run


@pytest.fixture
def day():
    return Day()


def test_contenders_run_by_turns_and_nobody_always_follows_the_same(day):
    tasks = {name: day.task(name, 1.0) for name in "abc"}
    timed = interleave(tasks, seconds=8, warm=False, clock=day.clock)
    assert [len(timing.cpu) for timing in timed.values()] == [2, 2, 2]
    assert day.order == list("bca") + list("cab")


def test_a_round_more_is_begun_only_where_it_fits(day):
    assert len(interleave({"a": day.task("a", 4.0)}, seconds=10, clock=day.clock)["a"].cpu) == 2
    assert len(interleave({"a": day.task("a", 99.0)}, seconds=10, clock=day.clock)["a"].cpu) == 1


@given(load=st.lists(st.floats(0.5, 20), min_size=2, max_size=12))
def test_a_ratio_does_not_feel_what_else_the_machine_does(load):
    """Every round is slowed down as a whole; the ratio of medians would not be 3 for all loads."""
    fast, slow = Timing(tuple(load), tuple(load)), Timing(tuple(3 * x for x in load), ())
    assert fast.faster_than(slow) == pytest.approx(3)
    assert slow.faster_than(fast) == pytest.approx(1 / 3)
    assert fast.faster_than(slow, wall=True) is None


def test_one_that_fails_costs_the_others_nothing(day):
    def broken():
        raise RuntimeError("no such instruction\nand a long trace")

    timed = interleave({"a": day.task("a", 1.0), "b": broken}, seconds=3, clock=day.clock)
    assert timed["b"] == Timing(reason="RuntimeError: no such instruction")
    assert len(timed["a"].cpu) == 3


def test_the_stock_networks_take_part_whatever_was_asked_for():
    asked = contenders(FORWARD, rows=["W4A8"], peers=[])
    assert [contender.name for contender in asked][:3] == [STOCK, HALF, BEST]
    assert all(contender.name.startswith("W4A8") for contender in asked[3:])


def test_peers_are_left_out_when_not_asked_for():
    names = {contender.name for contender in contenders(replace(LINEAR, level="block"), peers=["openvino"])}
    assert "OpenVINO W8A8 static" in names
    assert not names & {"torchao W8A8", "onnxruntime W8A8", "W8A8 zentorch"}


def test_every_name_is_there_once_and_every_goal_names_contenders_that_exist():
    names = [contender.name for contender in CONTENDERS]
    assert len(set(names)) == len(names)
    wanted = {name for goal in GOALS if isinstance(goal, Ratio) for name in (*goal.ours, *goal.others)}
    assert wanted <= set(names)


def test_unknown_levels_and_shapes_are_refused_with_the_known_ones():
    with pytest.raises(RecipeError, match="block, linear"):
        groups("mini", levels=["layer"], frames=[2], threads=[1])
    with pytest.raises(RecipeError, match="vggt-1b"):
        groups("huge", levels=["linear"], frames=[2], threads=[1])


def test_an_order_arrives_in_the_other_process_as_it_was_given(tmp_path):
    order = Order(LINEAR, ("W8A8",), ("torchao",), 2.5, "typed", tmp_path / "x.json", "it died")
    assert Order.from_json(order.to_json()) == order
    assert Order.from_json(replace(order, peers=None).to_json()).peers is None


@pytest.fixture
def order(tmp_path):
    return Order(LINEAR, (), None, 4.0, "typed", tmp_path / "x.json")


def test_what_cannot_be_made_has_its_reason_and_the_others_are_timed(order, day):
    def make(contender):
        if peer_of(contender):
            raise MissingLibraryError("it is not installed", remedy="Install quantlab[bench].")
        return day.task(contender.name, 1.0 if contender.name == STOCK else 0.25), {"kernels": {"native": 1}}

    record = measure(order, make, clock=day.clock)
    assert record.speedup("W8A8", STOCK) == pytest.approx(4)
    line = record.line("OpenVINO int8")
    assert line.timing.reason.startswith("it is not installed")
    assert record.speedup("OpenVINO int8", STOCK) is None


def test_a_bug_in_a_rival_is_its_reason_too(order, day, capsys):
    def make(contender):
        if contender.maker == "torchao":
            raise KeyError("x")
        return day.task(contender.name, 1.0), {}

    assert measure(order, make, clock=day.clock).line("torchao W8A8").timing.reason == "KeyError: 'x'"


def test_a_record_comes_back_from_its_file_and_a_damaged_one_is_none(tmp_path):
    record = made({STOCK: 4.0, "W8A8": 1.0}, reasons={"W4A8": "refused"})
    path = path_of(tmp_path, "machine", FORWARD)
    write(record, path)
    assert read(path) == record
    whole = path.read_text()
    for damaged in (whole[:-20], whole.replace("4.0", "9" * 400), "[" * 100_000):
        path.write_text(damaged)
        assert read(path) is None


def made(seconds, *, group=FORWARD, reasons=None, facts=None):
    """A record in which each contender took so many seconds, three times."""
    lines = [
        Line(name, Timing((taken,) * 3, (taken / 2,) * 3), (facts or {}).get(name, {}))
        for name, taken in seconds.items()
    ]
    lines += [Line(name, Timing(reason=reason)) for name, reason in (reasons or {}).items()]
    return Record(group, "digest", tuple(lines), MADE)


def test_a_goal_is_met_or_missed_by_a_share():
    record = made({STOCK: 10.0, HALF: 4.0, BEST: 3.0, f"W8A8{STREAM}": 2.0})
    found = {verdict.goal: verdict for verdict in verdicts([record])}
    assert found["W8A8 whole forward, 2 frames: at least 5x stock float32"].outcome == "met"
    missed = found["W8A8 whole forward, 2 frames: at least 2.5x stock bfloat16"]
    assert missed.outcome == "missed by 20 %"
    assert missed.measured.startswith("2.00x")
    absent = found["W4A8 whole forward, 2 frames: at least 4.7x stock float32"]
    assert absent.outcome.startswith("nothing measured of W4A8")


@given(st.floats(0.01, 0.9949))
def test_a_goal_that_is_missed_never_says_met(share):
    assert outcome(share) == f"missed by {100 * (1 - share):.0f} %"


def test_a_cut_network_meets_no_goals():
    assert verdicts([made({STOCK: 10.0}, group=replace(FORWARD, depth=2))]) == []


def test_memory_goals_read_the_packed_row():
    facts = {"disk_bytes": 700e6, "weights_bytes": 600e6, "peak_bytes": 1.5e9, "load_seconds": 2.0}
    facts |= {"anonymous_bytes": 140e6, "imported_bytes": 2e8, "forward_seconds": 9.0}
    record = made(
        {"packed W4A8 g128": 1.0},
        group=Group("vggt-1b", "memory", "memory", 2, 2),
        facts={"packed W4A8 g128": facts},
    )
    outcomes = [verdict.outcome for verdict in verdicts([record])[-5:]]
    assert outcomes == ["missed by 3 %", "met", "met", "met", "met"]
    assert "| packed W4A8 g128 | 700 | 600 | 2.00 | 140 | 1500 | 200 | 9.0 |" in document([record])


def test_the_table_shows_ratios_threads_and_reasons(tmp_path):
    one = made(
        {STOCK: 4.0, HALF: 2.0, "W8A8": 1.0},
        reasons={"OpenVINO int8": "a | b <c>"},
        facts={"W8A8": {"kernels": {"native": 48}, "attention": "torch"}},
    )
    two = made({STOCK: 4.0, HALF: 2.0, "W8A8": 1.0}, group=replace(FORWARD, threads=2))
    text = document([one, two])
    assert "| W8A8 | 1000 | 4.00 | 2.00 | 500 | 4.00 | 2.00 | native |" in text
    assert "OpenVINO int8: a \\| b &lt;c>" in text
    for record in (one, two):
        write(record, path_of(tmp_path, "m", record.group))
    document_path, numbers = render(tmp_path, "m")
    assert document_path.read_text() == text
    assert len(json.loads(numbers.read_text())["groups"]) == 2


def test_nothing_measured_is_nothing_to_render(tmp_path):
    with pytest.raises(StorageError, match="nothing was measured"):
        render(tmp_path, "nowhere")


INTEL = "model name\t: Intel(R) Xeon(R) CPU @ 2.60GHz\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_int8\n"


def test_a_machine_is_told_by_its_processor_and_instructions():
    found = processor(INTEL)
    assert found["instructions"] == ["AMX int8", "AVX512 VNNI", "AVX512", "AVX2"]
    assert slug(found) == "intel-xeon-2-60ghz-amx-int8"
    assert slug({"processor": "///", "instructions": []}) == "machine"


@pytest.fixture
def request_of(tmp_path):
    return Request((LINEAR,), tmp_path, rows=("W8A8",), peers=("torchao",))


class Process:
    """In place of a child: writes a record, or dies as often as told."""

    def __init__(self, deaths: int = 0) -> None:
        self.deaths, self.orders = deaths, []

    def __call__(self, command, **_):
        self.orders.append(Order.from_json(command[-1]))
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def kill(self):
        pass

    def wait(self, limit):
        order = self.orders[-1]
        if len(self.orders) <= self.deaths:
            return -11
        lines = tuple(
            Line(
                c.name,
                Timing(reason=order.crashed) if order.crashed and peer_of(c) else Timing((1.0,), (1.0,)),
            )
            for c in order.contenders
        )
        write(Record(order.group, order.digest, lines, MADE), order.path)
        return 0


def test_what_was_measured_is_not_measured_again_unless_asked(request_of, monkeypatch):
    process = Process()
    monkeypatch.setattr(runs.subprocess, "Popen", process)
    said: list[str] = []
    runs.run(request_of, tell=said.append)
    runs.run(request_of, tell=said.append)
    assert len(process.orders) == 1
    assert said[-1] == "1 groups, 1 of them measured before"
    runs.run(replace(request_of, fresh=True))
    runs.run(replace(request_of, quick=True))
    assert len(process.orders) == 3


def test_a_process_that_dies_with_peers_is_tried_without_them(request_of, monkeypatch):
    process = Process(deaths=1)
    monkeypatch.setattr(runs.subprocess, "Popen", process)
    record = runs.measured([replace(request_of, rows=()).order(LINEAR)])[0]
    assert record.line("W8A8").timing.cpu
    assert not record.line("torchao W8A8").timing.cpu
    assert "died of signal 11" in process.orders[1].crashed


def test_a_process_that_always_dies_leaves_its_reason_and_is_tried_again_next_time(request_of, monkeypatch):
    monkeypatch.setattr(runs.subprocess, "Popen", Process(deaths=99))
    record = runs.measured([request_of.order(LINEAR)])[0]
    assert {line.timing.reason for line in record.lines} == {"the process died of signal 11"}
    process = Process()
    monkeypatch.setattr(runs.subprocess, "Popen", process)
    runs.run(request_of)
    assert len(process.orders) == 1


def test_a_folder_that_cannot_be_written_is_said(request_of, tmp_path):
    target = tmp_path / "file"
    target.write_text("")
    with pytest.raises(StorageError):
        write(made({STOCK: 1.0}), path_of(Path(target), "m", LINEAR))
