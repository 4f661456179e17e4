"""Builds HTML in which nothing from outside can become markup. It knows no report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
_LEAVES = frozenset({"circle", "line", "path", "rect"})
Attribute = str | float | bool | None


class Markup(str):
    """Text that is HTML already. Only this module makes it, out of parts that it has escaped."""

    __slots__ = ()


Child = str | float | None | Iterable["Child"]


def text(child: Child) -> Markup:
    """Markup as it is; a plain text or number escaped; None as nothing; a list one after another."""
    if child is None:
        return Markup("")
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | float | int):
        return Markup(escape(str(child), quote=True))
    return Markup("".join(text(item) for item in child))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element: ``tag("p", "1 < 2", class_="quiet", aria_label="sum")``.

    A trailing underscore of an attribute is dropped, others become hyphens; True gives a bare attribute, None and
    False none at all.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    if name in _LEAVES and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{text(children)}</{name}>")


def raw(name: str, content: str, **attributes: Attribute) -> Markup:
    """A style or script of our own, whose text the browser takes literally.

    Raises:
        ValueError: The text would end its own element.
    """
    if f"</{name}" in content.lower() or "<!--" in content:
        raise ValueError(f"this text cannot stand in a <{name}>")
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    return Markup(f"<{name}{given}>{content}</{name}>")


def json_block(identity: str, data: Any) -> Markup:
    """Data for the script of the page. Every character that could mean something to HTML or JavaScript is escaped."""
    dumped = json.dumps(_finite(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        dumped = dumped.replace(character, f"\\u{ord(character):04x}")
    return raw("script", dumped, type="application/json", id=identity)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value), quote=True)}"'


def _finite(value: Any) -> Any:
    """NaN and infinities become null, as JSON has none."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
