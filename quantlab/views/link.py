"""Deep links: model, scene and recipe packed into an address, and read back as nothing but data."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass

from quantlab.engine.plain import Entries, parse
from quantlab.engine.recipe import Recipe
from quantlab.errors import RecipeError, StorageError

FORMAT = 1
NAME = "s"
LONGEST_LINK = 8_000
"""Characters of a link; beyond it mail programs and chats cut it."""
LONGEST_PACKED = 2_000_000
LARGEST_UNPACKED = 16_000_000
"""Bytes of the text inside, for links and for what a browser keeps; a recipe has some thousand."""
REMEDY = "Ask for the link again, or for the recipe as a file."


@dataclass(frozen=True, slots=True)
class Linked:
    """What a link opens.

    Attributes:
        model: A name, as the app lists it.
        scene: Likewise; "" for the one that is open anyway.
        recipe: To be quantized by.
        layer: To be opened; "" for none.
    """

    model: str
    scene: str
    recipe: Recipe
    layer: str = ""


def link_of(model: str, scene: str, recipe: Recipe, layer: str = "") -> str:
    """The query of an address that opens these, as ``?s=...``.

    Raises:
        RecipeError: The recipe has too many rules for a link.
    """
    document = {"format": FORMAT, "model": model, "scene": scene, "layer": layer, "recipe": recipe.to_dict()}
    link = f"?{NAME}={pack(json.dumps(document, separators=(',', ':'), ensure_ascii=False))}"
    if len(link) > LONGEST_LINK:
        raise RecipeError(
            f"the recipe is too long for a link: {len(link)} characters",
            place=f"{len(recipe.rules)} rules",
            remedy="Send it as a file: YAML or the session.",
        )
    return link


def open_link(text: str) -> Linked:
    """Read a link: a whole address, its query, or what stands after ``s=``.

    Raises:
        StorageError: It is cut off, damaged, no link of QuantLab, or one of a newer QuantLab.
        RecipeError: Its recipe is none.
    """
    packed = text.partition(f"?{NAME}=")[2] or text
    packed = packed.partition("&")[0].partition("#")[0]
    if len(packed) > LONGEST_LINK:
        raise StorageError(
            f"the link is longer than {LONGEST_LINK} characters",
            place="link",
            remedy="Ask for a file instead.",
        )
    data = parse(unpack(packed, place="link"), "link", what="link", remedy=REMEDY)
    number = data.get("format") if isinstance(data, dict) else None
    if type(number) is int and number > FORMAT:
        raise StorageError(
            f"link format {number} was made by a newer QuantLab", place="link", remedy="Update QuantLab."
        )
    entries = Entries(data, "link", ("format", "model", "scene", "layer", "recipe"), remedy=REMEDY)
    entries.whole("format", 1, FORMAT)
    recipe = Recipe.from_dict(entries.raw("recipe"), place="link: recipe")
    return Linked(entries.text("model"), entries.text("scene"), recipe, entries.text("layer"))


def pack(text: str, *, level: int = 9) -> str:
    """Text compressed, in letters that an address may hold; at a lower ``level`` it is longer and sooner done."""
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), level)).rstrip(b"=").decode()


def unpack(packed: str, *, place: str) -> str:
    """The inverse of `pack`, which never takes more memory than a long session needs.

    Raises:
        StorageError: It is damaged, or would unpack to more.
    """
    if len(packed) > LONGEST_PACKED or not packed.isascii():
        raise _broken(place, "it is too long, or holds letters that none has")
    unpacking = zlib.decompressobj()
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        text = unpacking.decompress(raw, LARGEST_UNPACKED).decode()
    except (ValueError, zlib.error):
        raise _broken(place, "it is damaged") from None
    if unpacking.unconsumed_tail:
        raise _broken(place, f"it would unpack to more than {LARGEST_UNPACKED // 10**6} MB")
    if not unpacking.eof:
        raise _broken(place, "its end is missing")
    return text


def _broken(place: str, reason: str) -> StorageError:
    return StorageError(f"the {place} cannot be read: {reason}", remedy=REMEDY)
