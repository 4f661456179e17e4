"""The file as a whole: what its policy allows, what it says, and what it keeps to itself."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import quantlab as ql
from quantlab.engine.comparison import pair
from quantlab.engine.measurement import Measurement
from quantlab.models.fingerprint import fingerprint
from quantlab.models.prediction import Prediction
from quantlab.report.data import gather
from quantlab.report.page import module, page
from quantlab.views.clouds import pair_of_clouds

LIMIT = 10_000_000


def digest_of(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def between(html: str, start: str, end: str) -> list[str]:
    return [rest.split(end, 1)[0] for rest in html.split(start)[1:]]


@pytest.fixture(params=["html", "hostile"])
def report(request) -> str:
    return request.getfixturevalue(request.param)


def test_the_policy_allows_the_files_own_script_and_style_and_nothing_else(report: str, read) -> None:
    metas = [meta for meta in read(report).of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    (policy,) = [meta["content"] for meta in metas]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (script,) = between(report, '<script type="module">', "</script>")
    (style,) = between(report, "<style>", "</style>")
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'{digest_of(script)}'"
    assert rules["style-src"] == f"'{digest_of(style)}'"
    assert rules["img-src"] == "data: blob:"
    assert "unsafe" not in policy
    assert report.index("Content-Security-Policy") < report.index("<style>")


def test_nothing_in_it_points_out_of_it(report: str, read) -> None:
    found = read(report)
    targets = [
        attributes[name] for _, attributes in found.elements for name in ("src", "href") if name in attributes
    ]
    assert len(targets) > 5
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert {one["id"] for _, one in found.elements if "id" in one} >= {
        target[1:] for target in targets if target.startswith("#")
    }
    assert not [
        one for _, one in found.elements if any(name.startswith("on") or name == "style" for name in one)
    ]
    (style,) = between(report, "<style>", "</style>")
    assert not re.search(r"url\(|@import|@font-face", style)


def test_every_id_is_there_once(report: str, read) -> None:
    ids = [attributes["id"] for _, attributes in read(report).elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_names_like_markup_are_read_as_they_are_and_make_no_element(hostile: str, html: str, read) -> None:
    mean, plain = read(hostile), read(html)
    assert len(mean.of("script")) == len(plain.of("script")) == 3
    assert len(mean.of("img")) == len(plain.of("img")) == 1
    assert "</script><img src=x onerror=alert(1)>" in mean.said
    assert len(mean.of("svg")) == len(plain.of("svg"))


def test_it_says_the_numbers_of_the_evaluation(html: str, data, read) -> None:
    said = read(html).said
    drift = data.evaluation.full_precision
    assert f"{100 * drift.point_error:#.3g} %" in said
    assert f"{data.evaluation.ground_truth.abs_rel:#.3g}" in said
    for scene in data.evaluation.by_scene:
        assert scene.name in said
        assert f"{100 * scene.drift['point_error']:#.3g}" in said


def test_what_was_not_measured_is_called_so(html: str, read) -> None:
    rows = html.split("<tr>")
    for name in ("latency", "peak memory", "accuracy", "normal consistency"):
        (row,) = [row for row in rows if f'<th scope="row"><span>{name}<' in row]
        assert "not measured" in row


def test_its_recipe_is_the_recipe_and_what_differs_from_the_preset_is_said(make_lab, read) -> None:
    lab = make_lab()
    lab.set("*.global_blocks.1.mlp", weights=8)
    html = page(gather(lab, points=100)).decode()
    texts = read(html).inside("code")
    assert any("format: 1" in text and ql.Recipe.from_yaml(text) == lab.recipe for text in texts)
    made: dict[str, ql.Recipe] = {}
    exec(next(text for text in texts if text.startswith("import quantlab")), made)
    assert made["recipe"] == lab.recipe
    assert "*.global_blocks.1.mlp: weights default → 8" in texts


def test_the_data_of_the_page_holds_every_layer_with_its_numbers(html: str, data, page_data) -> None:
    table = page_data(html)["tables"]["layers"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert [row["layer"] for row in rows] == [layer.name for layer in data.layers]
    for row in rows:
        planned = data.plan.layers[row["layer"]]
        assert row["quantized"] == planned.quantized
        assert row["TRE"] == (data.diagnosis.layers[row["layer"]] if planned.quantized else None)
        assert row["bytes"] == planned.bytes


def test_the_histogram_of_a_layer_keeps_its_exact_counts(html: str, data, page_data) -> None:
    told = page_data(html)
    kept = told["tables"]["layer-1"]["steps"]["raw"]
    counts = data.worst[0].steps["raw"].counts
    whole = np.zeros_like(counts)
    whole[kept["first"] : kept["first"] + len(kept["counts"])] = kept["counts"]
    assert np.array_equal(whole, counts)
    assert len(told["edges"]) == len(counts) + 1


def test_it_says_where_it_comes_from(html: str, read) -> None:
    said = read(html).said
    for fact in (
        torch.__version__,
        np.__version__,
        ql.__version__,
        "quantlab report --out r.html",
        "tiny seen",
    ):
        assert fact in said
    assert re.search(r"\b[0-9a-f]{64}\b", said)


def test_it_names_neither_host_nor_user(html: str, read) -> None:
    import getpass
    import socket

    said = read(html).said.split()
    assert socket.gethostname() not in said
    assert getpass.getuser() not in said


def test_the_digest_is_the_one_that_sessions_and_profiles_know_the_weights_by(lab, data) -> None:
    assert data.provenance.groups["Model"]["sha256"] == lab.fingerprint == fingerprint(lab.model)


def test_a_network_without_a_cloud_is_reported_without_one(read) -> None:
    torch.manual_seed(0)
    lab = ql.Lab(
        nn.Sequential(nn.Linear(12, 12), nn.GELU(), nn.Linear(12, 3)), calibration=torch.randn(4, 12)
    )
    html = page(gather(lab, points=100)).decode()
    said = read(html).said
    assert "no reconstruction to compare" in said
    assert "ql-viewer" not in {attributes.get("id") for attributes in read(html).of("div")}


def test_a_recipe_that_rounds_nothing_shows_the_heaviest_tails(make_lab, read) -> None:
    html = page(gather(make_lab(recipe=ql.Recipe.preset("full_precision")), points=100)).decode()
    assert "Nothing is rounded" in read(html).said


def grid(side: int, views: int, noise: float) -> Prediction:
    """A bumpy wall seen by some cameras."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    points = np.stack([np.stack([x + view, y, np.sin(9 * x) * y], -1) for view in range(views)])
    return Prediction(
        random.integers(0, 255, (views, side, side, 3), dtype=np.uint8),
        (points + noise * random.normal(size=points.shape)).astype(np.float32),
        random.random((views, side, side), dtype=np.float32),
        np.ones((views, side, side), np.float32),
        np.repeat(np.eye(4)[None], views, 0),
        np.repeat(np.eye(3, dtype=np.float32)[None] * side, views, 0),
    )


def test_two_clouds_of_200_000_points_fit_in_10_megabytes(data) -> None:
    full, rounded = grid(224, 4, 0.0), grid(224, 4, 0.01)
    both = pair(full, rounded)
    clouds = pair_of_clouds(both, both.left, both.right, scene="wall", limit=200_000)
    assert len(page(replace(data, comparison=both, clouds=clouds))) < LIMIT


def test_the_bundle_of_the_viewer_is_taken_whole_and_offers_mount() -> None:
    script = module()
    assert "export{" not in script.replace(" ", "")[-5000:]
    assert re.search(r"\nconst mount = [\w$]+;\n", script)
    assert "</script" not in script


def test_a_measured_execution_is_told_with_machine_date_kernels_and_the_slowest_layers(data, read) -> None:
    names = [layer.name for layer in data.layers]
    measurement = Measurement(
        seconds=0.04,
        full_seconds=0.08,
        mixed_seconds=0.06,
        runs=5,
        bytes=2_000_000,
        full_bytes=8_000_000,
        peak_bytes=1_000_000,
        kernels={"native": len(names)},
        chosen=dict.fromkeys(names, "native"),
        layers={name: 0.001 * (place + 1) for place, name in enumerate(names)},
        machine="a machine <of tests>",
        date="2026-01-02T03:04:05+00:00",
        scene="room",
        threads=2,
        kinds={"linears": 0.03, "attention": 0.01},
        full_kinds={"linears": 0.06, "attention": 0.02},
    )
    html = page(replace(data, measurement=measurement)).decode()
    said = read(html).said
    for told in (
        "a machine <of tests>, 2 threads, 2026-01-02 03:04:05 UTC",
        f"native (our own C) × {len(names)}",
        "2× faster",
        "Where the time goes",
        "attention 10 ms 25 % 20 ms 25 %",
    ):
        assert told in said
    rows = {
        name: row
        for row in html.split("<tr>")
        for name in ("latency", "peak memory")
        if f"<span>{name}<" in row
    }
    assert "40 ms" in rows["latency"]
    assert "80 ms" in rows["latency"]
    assert "3 MB" in rows["peak memory"]
    assert said.count("not measured") < read(page(data).decode()).said.count("not measured")
