"""What is shipped for the browser: a bundle built from these very sources, its licences, and texts for each host."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys

from quantlab.viewer.embed import data_url, esm_path, gradio_arguments, static_folder

NAMESPACES = {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}
"""Names that look like addresses; no browser asks for them."""


def test_the_bundle_was_built_from_these_sources() -> None:
    folder = static_folder().parent / "js"
    names = [*sorted((folder / "src").iterdir(), key=lambda path: path.name)]
    digest = hashlib.sha256(
        b"".join(p.read_bytes() for p in [*names, folder / "build.js", folder / "package-lock.json"])
    )
    stamp = re.match(r"// QuantLab viewer, sources sha256 (\w+)", esm_path().read_text(encoding="utf-8"))
    assert stamp
    assert stamp[1] == digest.hexdigest(), "run: cd quantlab/viewer/js && npm ci && npm run build"


def test_the_bundle_asks_for_nothing_from_elsewhere_and_can_stand_inside_a_page() -> None:
    text = esm_path().read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[\w./-]+", text)) <= NAMESPACES
    assert "</script" not in text
    assert not re.search(r"\bnew Function\b|\beval\(", text)


def test_the_licence_of_three_is_shipped() -> None:
    text = (static_folder() / "LICENSES.txt").read_text(encoding="utf-8")
    assert "three 0.187.0 (MIT)" in text
    assert "Permission is hereby granted" in text


def test_a_payload_survives_as_text() -> None:
    payload = bytes(range(256))
    assert base64.b64decode(data_url(payload).split(",")[1]) == payload


def test_the_gradio_script_names_its_events_in_quotes_and_its_template_is_constant() -> None:
    arguments = gradio_arguments(height="50vh")
    assert all(f'"{name}"' in str(arguments["js_on_load"]) for name in ("pick", "camera", "region", "state"))
    assert "50vh" in str(arguments["html_template"])
    assert "{" not in str(arguments["html_template"])


def test_the_viewer_imports_no_torch_and_no_toolkit() -> None:
    code = "import sys, quantlab.viewer.pack, quantlab.viewer.embed; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"torch", "gradio", "anywidget", "ipywidgets", "plotly"} & set(run.stdout.split())
