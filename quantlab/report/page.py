"""One self-contained HTML file: sections, data, script and style, and a policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.errors import StorageError
from quantlab.jobs import Job
from quantlab.report.data import ReportData, gather
from quantlab.report.markup import Markup, json_block, raw, tag
from quantlab.report.measures import numbers_section, scenes_section
from quantlab.report.network import edges, network_section, worst_section
from quantlab.report.sections import clouds_section, header, provenance_section, recipe_section, title
from quantlab.report.speed import speed_section
from quantlab.report.style import css
from quantlab.storage import atomic_write, check_writable
from quantlab.viewer.embed import esm_path

if TYPE_CHECKING:
    from quantlab.lab import Lab

POINTS = 200_000
ENDINGS = (".html", ".htm")
SECTIONS = {
    "clouds": ("Clouds", clouds_section),
    "numbers": ("Numbers", numbers_section),
    "speed": ("Speed", speed_section),
    "scenes": ("Scenes", scenes_section),
    "network": ("Network", network_section),
    "worst": ("Worst layers", worst_section),
    "recipe": ("Recipe", recipe_section),
    "provenance": ("Where it comes from", provenance_section),
}
_STATIC = Path(__file__).with_name("static")


def write(
    lab: Lab,
    path: str | Path,
    *,
    scene: int = 0,
    points: int = POINTS,
    note: str = "",
    icp: bool = False,
    measure: bool = False,
    command: str = "",
    job: Job | None = None,
) -> Path:
    """Write what the lab knows under the recipe in force to one HTML file that opens offline; answer its path.

    What was not measured yet is measured now. An older file stays whole until the new one is.

    Args:
        lab: The lab; neither its recipe nor its history changes.
        path: Of the file, ending in .html.
        scene: Which evaluation scene is shown in 3D.
        points: Of each cloud, at most; 200 000 make about 6 MB.
        note: What you want to say to the reader, as plain text.
        icp: Score the clouds too, which takes seconds a scene.
        measure: Execute the recipe and time it, which takes some passes; off: only where the lab has done so.
        command: How the report came about, for its last section.
        job: Follows and stops it.

    Raises:
        StorageError: The file cannot be written, or is not called like a report; found out before the work.
        SceneError: There is no such scene.
        JobCancelledError: The job was cancelled; nothing is written.
    """
    target = checked(path)
    chosen = {"scene": scene, "note": note, "icp": icp, "measure": measure, "command": command}
    return atomic_write(target, render(lab, points=points, job=job, **chosen))


def checked(path: str | Path) -> Path:
    """The path, if a report can be written there.

    Raises:
        StorageError: It cannot. Other endings are refused because a slip would put a page where the weights were.
    """
    target = Path(path)
    if target.suffix.lower() not in ENDINGS:
        raise StorageError("a report is an HTML file", place=str(target), remedy="Let its name end in .html.")
    check_writable(target)
    return target


def render(lab: Lab, *, points: int = POINTS, job: Job | None = None, **chosen: Any) -> bytes:
    """The report as the bytes of an HTML file; see `write`."""
    return page(gather(lab, points=points, job=job, **chosen))


def page(data: ReportData) -> bytes:
    """The whole file."""
    parts = {name: make(data) for name, (_, make) in SECTIONS.items()}
    tables = {name: table for part in parts.values() for name, table in part.tables.items()}
    stem = re.sub("[^A-Za-z0-9_-]+", "-", title(data)).strip("-").lower()[:60] or "report"
    links = [(name, called) for name, (called, _) in SECTIONS.items()]
    main = tag("main", [part.html for part in parts.values()])
    blocks = [
        json_block("ql-data", {"stem": stem, "edges": edges(), "tables": tables}),
        raw(
            "script", base64.b64encode(data.clouds).decode(), type="application/octet-stream", id="ql-clouds"
        ),
    ]
    style, script = css(), module()
    told = tag("p", id="told", role="status", class_="told")
    head = tag("head", _head(title(data), style, script), raw("style", style))
    body = tag("body", header(data, links), main, told, *blocks, raw("script", script, type="module"))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n".encode("utf-8", "replace")


def _head(called: str, style: str, script: str) -> list[Markup]:
    """The policy comes first: what stands before it would not be held by it."""
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="QuantLab"),
        tag("title", f"{called} · QuantLab"),
        tag("link", rel="icon", href="data:,"),
    ]


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def module() -> str:
    """The viewer and the report's own script as one module: two inline modules could not import each other.

    Raises:
        StorageError: The viewer was built in a way this does not know.
    """
    viewer = _read(esm_path())
    exports = re.search(r"export\s*\{([^{}]*)\};?\s*$", viewer)
    named = dict(re.findall(r"([\w$]+) as ([\w$]+)", exports.group(1))) if exports else {}
    mount = next((inner for inner, outer in named.items() if outer == "mount"), None)
    if exports is None or mount is None:
        raise StorageError(
            "the viewer's bundle does not offer mount()",
            place=str(esm_path()),
            remedy="Install QuantLab again.",
        )
    own = _read(_STATIC / "report.js")
    joined = f"{viewer[: exports.start()]}\n{{\nconst mount = {mount};\n{own}}}\n"
    return joined.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _read(path: Path) -> str:
    """The text as the browser will hash it: with line feeds alone."""
    return path.read_text("utf-8").replace("\r\n", "\n").replace("\r", "\n")
