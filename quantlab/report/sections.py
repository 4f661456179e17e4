"""The sections around the numbers: what is reported, the clouds, the recipe, its origin. It measures nothing."""

from __future__ import annotations

from quantlab.engine.presets import PRESETS
from quantlab.engine.settings import FULL_PRECISION
from quantlab.report.data import ReportData
from quantlab.report.markup import Markup, tag
from quantlab.report.measures import error_part
from quantlab.report.parts import Part, code, exported, facts, section
from quantlab.views.numbers import numbers


def title(data: ReportData) -> str:
    """The report in a few words."""
    return f"{recipe_label(data)} on {data.model}"


def recipe_label(data: ReportData) -> str:
    """The recipe by its name and the bits it starts from."""
    recipe = data.recipe
    name = PRESETS[recipe.name].label if recipe.name in PRESETS else recipe.name
    bits = [recipe.defaults.get(field, FULL_PRECISION) for field in ("weights", "activations")]
    return name if bits == [FULL_PRECISION] * 2 else f"{name} W{bits[0]}A{bits[1]}"


def header(data: ReportData, links: list[tuple[str, str]]) -> Markup:
    """Title, what was reported, the strip of numbers, and where to go."""
    sizes = (data.evaluation.packed_bytes, data.evaluation.full_bytes)
    strip = numbers(data.evaluation, None, sizes=sizes, stale=False, measured=(data.measurement, None))
    tiles = [
        tag(
            "div",
            tag("dt", item["label"]),
            tag(
                "dd",
                item["value"] or "–",
                " ",
                tag("small", item["unit"]),
                class_=None if item["value"] else "none",
            ),
            tag("dd", item["note"] or item["base"], class_="quiet"),
            title=item["help"],
        )
        for item in strip["items"]
    ]
    planted = " Its outliers were planted artificially." if data.planted else ""
    told = f"Network {data.model}, scene {data.scene}, {data.provenance.groups['Software']['made']}.{planted}"
    note = [tag("p", line) for line in data.note.splitlines() if line.strip()]
    top = [
        tag("p", "QuantLab report", class_="kind"),
        tag("h1", title(data)),
        tag("p", told, class_="quiet"),
        tag("div", note, class_="author-note") if note else None,
        tag("dl", tiles, class_="tiles"),
        tag("nav", [tag("a", name, href=f"#{target}") for target, name in links], aria_label="Sections"),
    ]
    return tag("header", top)


def clouds_section(data: ReportData) -> Part:
    """The two clouds, and how far apart their points are."""
    if data.comparison is None:
        gone = tag("p", f"Not measured: {data.no_clouds}", class_="none")
        return Part(section("clouds", "Clouds in 3D", None, gone), {})
    lead = (
        "The same pictures through the network at full precision and under this recipe, in one frame and under one "
        "camera. Drag to turn, click and then use the wheel to zoom; 1 to 4 change the comparison, R returns."
    )
    viewer = tag("div", id="ql-viewer", class_="viewer")
    poster = tag("img", id="poster", alt="The clouds as they are seen now", hidden=True)
    stage = exported(
        "clouds", tag("div", viewer, poster), kinds=["csv", "png"], class_="wide stage", caption=data.scene
    )
    errors = error_part(data)
    absent = tag("p", "The clouds need JavaScript; everything else can be read without.", id="no-script")
    below = [] if errors is None else [errors.html]
    return Part(
        section("clouds", "Clouds in 3D", lead, absent, stage, below), {} if errors is None else errors.tables
    )


def recipe_section(data: ReportData) -> Part:
    """The recipe, so that somebody else can run it."""
    recipe = data.recipe
    about = [tag("p", PRESETS[recipe.name].help, class_="lead")] if recipe.name in PRESETS else []
    texts = [
        code("recipe-python", "Python", recipe.to_python()),
        code("recipe-yaml", "YAML", recipe.to_yaml()),
    ]
    body = [about, _differences(data), tag("div", *texts, class_="codes")]
    return Part(section("recipe", "Recipe", None, body), {})


def _differences(data: ReportData) -> Markup:
    changes = data.from_preset
    if changes is None:
        return tag("p", "It was not made from a preset.", class_="quiet")
    if not changes:
        return tag("p", f"It is the preset {data.recipe.name}, unchanged.", class_="quiet")
    told = tag("p", f"What it changes of the preset {data.recipe.name}:", class_="quiet")
    return tag("div", told, tag("ul", [tag("li", tag("code", line)) for line in changes]))


def provenance_section(data: ReportData) -> Part:
    """Everything that another person needs to make the same report."""
    groups = [
        tag("div", tag("h3", name), facts([(label, tag("span", fact)) for label, fact in pairs.items()]))
        for name, pairs in data.provenance.groups.items()
    ]
    return Part(section("provenance", "Where it comes from", None, tag("div", *groups, class_="groups")), {})
