"""The sections of layers: the map, every layer's numbers, and the worst ones drawn. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from quantlab.engine.views import LayerView
from quantlab.figures.histogram import layer_histogram
from quantlab.figures.outlier_map import outlier_map
from quantlab.figures.readable import short, size
from quantlab.figures.severity import QUANTITIES, severities
from quantlab.figures.theme import PAGE
from quantlab.numerics.records import BIN_EDGES, Histogram
from quantlab.report.data import ReportData
from quantlab.report.map import network_map
from quantlab.report.markup import Markup, tag
from quantlab.report.parts import Part, exported, facts, number, scrolling, section, table
from quantlab.report.plots import lines
from quantlab.views.names import distinct_names

COLOURED_BY = ("tre", "kurtosis", "max_p999")
COLUMNS = (
    "layer", "called", "stream", "kind", "block", "weights bits", "activations bits", "quantized", "reason", "TRE",
    "kurtosis", "max |x|", "max / p99.9", "bytes", "bytes in 16 bits", "drawn",
)  # fmt: skip


def network_section(data: ReportData) -> Part:
    """The map with its panel, and the table behind it."""
    called = distinct_names(data.layers)
    sheet = [_row(data, layer, called) for layer in data.layers]
    maps = [_map(data, quantity, called) for quantity in COLOURED_BY]
    choices = [
        tag("option", QUANTITIES[quantity].label, value=quantity, selected=not index)
        for index, quantity in enumerate(COLOURED_BY)
    ]
    pick = tag(
        "label", "colour by ", tag("select", choices, id="color-by", aria_controls="maps"), class_="pick"
    )
    panel = tag("div", id="layer-panel", class_="panel", aria_live="polite")
    body = tag("div", tag("div", maps, id="maps"), panel, class_="map-and-panel")
    lead = (
        f"{len(data.plan.quantized)} of {len(data.layers)} layers are quantized. Point at a cell, or click it, or use "
        "the arrow keys: its numbers stand beside the map. A crossed cell has no number."
    )
    inner = [pick, exported("layers", body, kinds=["csv", "png"], caption=_map_caption(), class_="wide")]
    html = section("network", "Map of the network", lead, inner, _all_layers(sheet))
    return Part(html, {"layers": {"columns": list(COLUMNS), "rows": sheet}})


def _map_caption() -> Markup:
    helps = [
        tag("span", QUANTITIES[name].help, data_quantity=name, hidden=name != "tre") for name in COLOURED_BY
    ]
    return tag("span", helps, id="map-help")


def _map(data: ReportData, quantity: str, called: Mapping[str, str]) -> Markup:
    values = severities(quantity, data.profile, data.diagnosis)
    untouched = {name for name, layer in data.plan.layers.items() if not layer.quantized}
    if quantity == "tre":
        values = {name: value for name, value in values.items() if name not in untouched}
    figure = outlier_map(data.layers, values, color_by=quantity, untouched=untouched, theme=PAGE)
    order = {layer.name: index for index, layer in enumerate(data.layers)}
    told = {name: f"{label}: {_said(name, quantity, values, untouched)}" for name, label in called.items()}
    drawn = network_map(
        figure, order, told, title=f"Map of the network, coloured by {QUANTITIES[quantity].label}"
    )
    return tag("div", drawn, data_quantity=quantity, hidden=quantity != COLOURED_BY[0])


def _said(name: str, quantity: str, values: Mapping[str, float], untouched: set[str]) -> str:
    if name in values:
        return f"{QUANTITIES[quantity].short} {short(values[name])}"
    return "full precision" if quantity == "tre" and name in untouched else "not measured"


def _row(data: ReportData, layer: Any, called: Mapping[str, str]) -> list[Any]:
    plan, seen = data.plan.layers[layer.name], data.profile.layers.get(layer.name)
    stats = None if seen is None else seen.all
    drawn = next((index for index, view in enumerate(data.worst) if view.name == layer.name), None)
    return [
        layer.name,
        called[layer.name],
        layer.stream,
        layer.kind,
        layer.index if layer.index >= 0 else None,
        plan.settings.weights if plan.quantized else 16,
        plan.settings.activations if plan.quantized else 16,
        plan.quantized,
        plan.reason,
        data.diagnosis.layers.get(layer.name) if plan.quantized else None,
        None if stats is None else stats.kurtosis,
        None if stats is None else stats.max,
        None if stats is None else stats.max_p999,
        plan.bytes,
        plan.full_bytes,
        drawn,
    ]


def _all_layers(sheet: list[list[Any]]) -> Markup:
    columns = ("layer", "weights", "activations", "TRE", "kurtosis", "max |x|", "max / p99.9", "size")
    rows = [
        (row[0], tag("span", _bits(row[5])), tag("span", _bits(row[6])), number(row[9]), number(row[10]),
         number(row[11]), number(row[12]), tag("span", " ".join(size(row[13]))))
        for row in sheet
    ]  # fmt: skip
    inner = scrolling("all layers", table(columns, rows, caption="All layers"))
    return tag("details", tag("summary", "All layers as a table"), inner)


def _bits(bits: int) -> str:
    return "16 bits" if bits == 16 else f"{bits} bits"


def worst_section(data: ReportData) -> Part:
    """The layers that suffer most: what they see, what rounding makes of it, and what that says."""
    called = distinct_names(data.layers)
    rounded = any(data.diagnosis.layers.get(view.name, 0.0) > 0 for view in data.worst)
    cards = [_card(data, index, view, called[view.name]) for index, view in enumerate(data.worst)]
    tables = {_file(index): _counts(view) for index, view in enumerate(data.worst)}
    lead = (
        "Those with the largest tail-relative error under this recipe, each quantized alone. Thin lines are the values "
        "a rounded number can take."
        if rounded
        else "Nothing is rounded, so these are the layers whose inputs have the heaviest tails."
    )
    return Part(section("worst", "Worst layers", lead, tag("div", *cards, class_="cards")), tables)


def _card(data: ReportData, index: int, view: LayerView, called: str) -> Markup:
    profile = data.profile.layers.get(view.name)
    picture = lines(
        layer_histogram(view, profile=profile, name=view.name, theme=PAGE), title=f"Input values of {called}"
    )
    settings = view.settings
    told: list[tuple[Any, Any]] = [
        ("TRE", number(data.diagnosis.layers.get(view.name) if view.quantized else None)),
        ("kurtosis", number(None if profile is None else profile.all.kurtosis)),
        ("output error", _percent(view.output_error if view.quantized else None)),
        ("weight error", _percent(view.weight_error if view.quantized else None)),
        ("clipped", _percent(view.clipped_fraction if view.grid is not None else None)),
        ("bits", f"W{settings.weights} A{settings.activations}" if view.quantized else "full precision"),
    ]
    head = [tag("h3", f"{index + 1}. {called}"), tag("p", tag("code", view.name), class_="quiet")]
    figure = exported(
        _file(index), picture, kinds=["csv", "png"], caption="Share of the input values, each step"
    )
    reading = tag("p", view.reading, class_="reading")
    return tag("article", head, figure, reading, facts(told), id=f"layer-{index}")


def _percent(share: float | None) -> Markup:
    return number(None) if share is None else tag("span", f"{short(100 * share, 2)} %")


def _file(index: int) -> str:
    return f"layer-{index + 1}"


def _counts(view: LayerView) -> dict[str, Any]:
    """The exact counts of every step; the page knows the edges of the bins, which are the same for all."""
    return {"steps": {step: _packed(histogram) for step, histogram in view.steps.items()}, "layer": view.name}


def _packed(histogram: Histogram) -> dict[str, Any]:
    filled = np.flatnonzero(histogram.counts)
    if not len(filled):
        return {"first": 0, "counts": []}
    first, last = int(filled[0]), int(filled[-1])
    return {"first": first, "counts": [int(count) for count in histogram.counts[first : last + 1]]}


def edges() -> list[float]:
    """The edges of all bins."""
    return [float(f"{edge:.6g}") for edge in BIN_EDGES]
