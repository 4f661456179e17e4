"""Two clouds in a real browser: any two states, the kind of error, cleaning that can be taken back, files."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from quantlab.geometry.ply import read_ply

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
LABELS = "() => document.querySelector('.quantlab-viewer').__quantlabViewer.data.meta.labels"
DRAWN = "() => document.querySelector('.quantlab-viewer').__quantlabViewer.data.meta.error"


def wait_for_cloud(bench, before):
    """The clouds on the screen are others than before, and nothing runs."""
    bench.page.wait_for_function(
        "(before) => document.querySelector('.ql-stage').dataset.cloud !== before", arg=before, timeout=60_000
    )
    bench.settle()
    return bench.page.evaluate("() => document.querySelector('.ql-stage').dataset.cloud")


def taken(page, what):
    with page.expect_download() as download:
        page.locator(f"[data-take={what}]").click()
    return download.value


def test_two_states_of_the_history_and_the_truth_stand_side_by_side(fresh):
    page, cloud = fresh.page, fresh.open().cloud
    fresh.preset("quarot")
    cloud = wait_for_cloud(fresh, cloud)
    left, right = page.get_by_label("Left side"), page.get_by_label("Right side")
    states = [text for text in left.locator("option").all_inner_texts() if text[0].isdigit()]
    assert states == ["1: quarot W4A4", "0: rtn W4A4"]
    left.select_option(label="0: rtn W4A4")
    cloud = wait_for_cloud(fresh, cloud)
    assert page.evaluate(LABELS) == ["0: rtn W4A4", "quantized"]
    between = page.get_by_test_id("error-told").inner_text()
    right.select_option(label="ground truth")
    wait_for_cloud(fresh, cloud)
    assert page.evaluate(LABELS) == ["0: rtn W4A4", "ground truth"]
    assert page.get_by_test_id("error-told").inner_text() != between
    assert page.locator(".ql-tiles").is_visible()


def test_the_sheet_changes_the_error_cleans_and_takes_it_back_by_keyboard(bench):
    page, first = bench.page, bench.begin().cloud
    page.get_by_test_id("clouds-button").focus()
    page.keyboard.press("Enter")
    sheet = page.get_by_test_id("clouds")
    assert sheet.is_visible()
    box = sheet.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    assert box["y"] + box["height"] <= 720
    page.get_by_role("button", name="nearest neighbour").press("Enter")
    near = wait_for_cloud(bench, first)
    assert page.evaluate(DRAWN)["name"] == "nearest neighbour"
    whole = page.get_by_test_id("error-told").inner_text()
    clean = page.get_by_role("checkbox", name="clean both clouds")
    clean.press("Space")
    cleaned = wait_for_cloud(bench, near)
    assert "pixels were stray" in page.get_by_test_id("cleaned").inner_text()
    assert page.get_by_test_id("error-told").inner_text() != whole
    page.get_by_label("deviations").fill("0.5")
    page.get_by_label("deviations").press("Enter")
    stricter = wait_for_cloud(bench, cleaned)
    clean.press("Space")
    wait_for_cloud(bench, stricter)
    assert page.get_by_test_id("error-told").inner_text() == whole
    page.keyboard.press("Escape")
    assert not sheet.is_visible()


def test_what_is_shown_can_be_taken_away_as_files(bench, tmp_path):
    page = bench.page
    bench.begin()
    page.evaluate(
        "() => { const viewer = document.querySelector('.quantlab-viewer').__quantlabViewer;"
        "viewer.setFrames([0, 2]); viewer.setConfidence(0); }"
    )
    page.get_by_test_id("clouds-button").click()
    right = taken(page, "right")
    assert right.suggested_filename == "demo-quantized.ply"
    right.save_as(tmp_path / "right.ply")
    points, colours = read_ply(tmp_path / "right.ply")
    assert points.shape == colours.shape == (2 * 96 * 96, 3)
    both = taken(page, "both")
    assert both.suggested_filename == "demo-full-precision-quantized.glb"
    both.save_as(tmp_path / "both.glb")
    data = (tmp_path / "both.glb").read_bytes()
    document = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
    names = [document["nodes"][index]["name"] for index in document["scenes"][0]["nodes"]]
    assert names == ["full precision", "quantized"]
    first = document["accessors"][document["meshes"][2]["primitives"][0]["attributes"]["POSITION"]]
    np.testing.assert_allclose(first["max"][0], points[:, 0].max(), rtol=1e-5)
