"""The pieces every section is made of: headings, tables, figures with their exports. It knows no numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quantlab.report.markup import Child, Markup, tag
from quantlab.views.numbers import digits

NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Part:
    """A section, and what its exports write.

    Attributes:
        html: The section.
        tables: Name of a file to its columns and rows, for CSV.
    """

    html: Markup
    tables: dict[str, dict[str, Any]]


def section(identity: str, title: str, lead: Child, *children: Child) -> Markup:
    """A section that can be linked to, with a sentence under its title."""
    head = [tag("h2", title, id=f"{identity}-title"), tag("p", lead, class_="lead") if lead else None]
    return tag("section", head, children, id=identity, aria_labelledby=f"{identity}-title")


def exported(
    name: str, body: Markup, *, kinds: Sequence[str], caption: Child = None, class_: str = ""
) -> Markup:
    """A figure with its buttons: ``kinds`` are "csv" and "png"."""
    helps = {"csv": "Save the numbers as a CSV file", "png": "Save the picture as a PNG file"}
    buttons = [
        tag("button", kind.upper(), type="button", data_export=kind, data_name=name, title=helps[kind],
            aria_label=f"{helps[kind]}: {name}")
        for kind in kinds
    ]  # fmt: skip
    foot = tag("figcaption", tag("span", caption), tag("span", *buttons, class_="exports"))
    return tag(
        "figure", scrolling(name, body) if class_.startswith("table") else body, foot, class_=class_ or None
    )


def scrolling(name: str, body: Markup) -> Markup:
    """What may be wider than a phone, and is scrolled with the keyboard too."""
    return tag("div", body, class_="scroll", role="region", aria_label=name, tabindex=0)


def table(columns: Sequence[str], rows: Sequence[Sequence[Child]], *, caption: str, plain: int = 1) -> Markup:
    """A table; numbers, after the first ``plain`` columns, stand to the right; a row of one cell is a heading."""
    full = [row for row in rows if len(row) == len(columns)]
    numeric = [_is_numeric([row[index] for row in full]) and index >= plain for index in range(len(columns))]
    heads = [
        tag("th", name, scope="col", class_="number" if right else None)
        for name, right in zip(columns, numeric, strict=True)
    ]
    body = [_row(row, numeric) for row in rows]
    return tag(
        "table", tag("caption", caption, class_="hidden"), tag("thead", tag("tr", heads)), tag("tbody", body)
    )


def _row(row: Sequence[Child], numeric: Sequence[bool]) -> Markup:
    if len(row) == 1:
        return tag("tr", tag("th", row[0], scope="rowgroup", colspan=len(numeric)), class_="group")
    cells = zip(row[1:], numeric[1:], strict=True)
    tail = [tag("td", cell, class_="number" if right else None) for cell, right in cells]
    return tag("tr", tag("th", row[0], scope="row"), tail)


def number(value: float | None, absent: str = NOT_MEASURED) -> Markup:
    """Three significant digits, or the word for what is not there."""
    return tag("span", absent, class_="none") if value is None else tag("span", digits(value))


def facts(pairs: Sequence[tuple[Child, Child]]) -> Markup:
    """A list of labels and what they stand for."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", told)) for name, told in pairs], class_="facts")


def code(identity: str, name: str, text: str) -> Markup:
    """A text to be copied."""
    button = tag("button", "Copy", type="button", data_copy=identity, aria_label=f"Copy the recipe as {name}")
    head = tag("div", tag("h3", name), button, class_="code-head")
    return tag("div", head, tag("pre", tag("code", text, id=identity), tabindex=0), class_="code")


def _is_numeric(cells: Sequence[Child]) -> bool:
    return all(cell is None or isinstance(cell, Markup | int | float) for cell in cells)
