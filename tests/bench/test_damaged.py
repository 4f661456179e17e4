"""Records with a value of another kind, in any place: they are left out by name, and tables can still be written."""

from __future__ import annotations

import copy
import json

import pytest

from quantlab.bench import cells
from quantlab.bench.csv_file import csv_text
from quantlab.bench.markdown import document as table_of_cells
from quantlab.bench.plot import drift_plot
from quantlab.bench.render import render as render_cells
from quantlab.bench.speed import records
from quantlab.bench.speed.clock import Timing
from quantlab.bench.speed.contenders import STOCK
from quantlab.bench.speed.goals import verdicts
from quantlab.bench.speed.markdown import document
from quantlab.bench.speed.plan import GPU, Group
from quantlab.bench.speed.records import Line, Record
from quantlab.bench.speed.render import render
from quantlab.bench.summary import Summary

ODD = [None, True, -1, 2.5, "x", "\ud800", [], [[]], {}, {"x": [1]}, {"\udfff": 1}, float("nan"), 10**400]
"""What may stand in a file where something else is expected."""
MADE = {
    "date": "2026-11-20T10:00:00+00:00",
    "command": "quantlab bench speed",
    "processor": "A processor",
    "instructions": ["AVX2"],
    "cores": 2,
    "python": "3.11.7",
    "versions": {"torch": "2.13.0"},
    "load": 0.5,
    "host": "A host",
}
SIZES = {f"{name}_bytes": 10**8 for name in ("disk", "weights", "anonymous", "peak", "imported")}
LINES = {
    "forward": {"kernels": {"native": 4, "onednn": 2}, "attention": "native", "arithmetic": "int8"},
    "memory": {**SIZES, "load_seconds": 1.0, "forward_seconds": 2.0},
    "profile": {"shares": {"linears": 1.0, "rest": 0.5}},
    "gpu": {"attentions": {"flash": 2}, "working_bytes": 10**7},
}
LARGE = "packed W4A8 g128"


def record(level):
    """A record with two lines that have all that a level tells of them, and one that was not measured."""
    of, device = ("forward", GPU) if level == "gpu" else (level, "cpu")
    timing = Timing((1.0, 1.5, 2.0), (1.0, 1.5, 2.0))
    lines = [Line(name, timing, copy.deepcopy(LINES[level])) for name in (STOCK, LARGE)]
    return Record(
        Group("vggt-1b", of, of, 2, 1, 0, device), "d", (*lines, Line("W8A8", Timing(reason="no"))), MADE
    )


def mutants(plain):
    """The same data with one value exchanged or taken away, each place in turn."""

    def places(value, at=()):
        yield at
        items = value.items() if isinstance(value, dict) else enumerate(value) if type(value) is list else ()
        for key, inner in items:
            yield from places(inner, (*at, key))

    for at in places(plain):
        for odd in (*ODD, ...):
            made = copy.deepcopy(plain)
            if not at:
                made = odd
            else:
                holder = made
                for key in at[:-1]:
                    holder = holder[key]
                if odd is ...:
                    del holder[at[-1]]
                else:
                    holder[at[-1]] = odd
            if made is not ...:
                yield at, made


@pytest.mark.parametrize("level", list(LINES))
def test_a_speed_record_with_any_one_value_exchanged_is_none_or_can_be_shown(level, tmp_path):
    good, path, refused = record(level), tmp_path / "0.json", set()
    records.write(good, path)
    assert records.read(path) == good
    for at, mutant in mutants(json.loads(path.read_text())):
        path.write_text(json.dumps(mutant))
        found = records.read(path)
        if found is None:
            refused.add(at)
            continue
        told = {"goals": list(map(str, verdicts([good, found]))), "made": found.made}
        assert STOCK in document([found, good])
        (document([good, found]) + json.dumps(told, ensure_ascii=False)).encode()
    needed = {("made", name) for name in MADE} | {("lines", 0, "facts", name) for name in LINES[level]}
    assert needed <= refused


def test_a_cell_with_any_one_value_exchanged_is_none_or_can_be_shown(tmp_path, made, whole):
    path, refused = tmp_path / "0.json", set()
    cells.write(made(), path)
    for at, mutant in mutants(json.loads(path.read_text())):
        path.write_text(json.dumps(mutant))
        found = cells.read(path)
        if found is None:
            refused.add(at)
            continue
        table = Summary("mini", [whole, found])
        (table_of_cells(table) + csv_text(table.records) + drift_plot(table)).encode()
    assert {("protocol", "seed"), ("protocol", "views"), ("made", "date"), ("recipe", "rules")} <= refused


def test_what_is_damaged_is_left_out_of_the_tables_by_name(tmp_path, made, whole):
    good, bad = record("forward"), record("memory")
    for one in (good, bad):
        records.write(one, records.path_of(tmp_path, "m", one.group))
    path = records.path_of(tmp_path, "m", bad.group)
    path.write_text(path.read_text().replace("100000000", '"100000000"'))
    told = []
    written = render(tmp_path, "m", told.append)
    assert told == [f"m/{path.name}: the file is damaged, so it is left out"]
    assert len(json.loads(written[1].read_text())["groups"]) == 1
    for name, one in (("full_precision/W16A16", whole), ("rtn/W4A4", made())):
        cells.write(one, tmp_path / "cells" / "mini" / name / "0.json")
    path = tmp_path / "cells/mini/rtn/W4A4/0.json"
    path.write_text(path.read_text().replace('"views": 4', '"views": [4]'))
    told.clear()
    assert "rtn" not in render_cells(tmp_path, "mini", told.append)[1].read_text()
    assert told == ["mini/rtn/W4A4/0.json: the file is damaged, so it is left out"]
