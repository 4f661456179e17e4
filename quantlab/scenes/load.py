"""From what a person names to a Scene: a built-in name, a folder, files, a film. Others decode."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from quantlab.errors import SceneError
from quantlab.registry import Registry
from quantlab.scenes import images, video
from quantlab.scenes.origin import Files
from quantlab.scenes.scene import Scene

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Scene

MOST_IMAGES = 100
"""More pictures than this are refused unless ``max_frames`` says how many to take."""
MOST_ROOMS = 1000
DEMO_SEED = 2026

BUILT_IN: Registry[Callable[[], Scene]] = Registry("scene", SceneError)


@BUILT_IN.register("demo")
def _demo() -> Scene:
    """One held-out room from four sides, rendered afresh: no file that could go missing."""
    from quantlab.scenes.synthetic import rooms  # imports torch

    room = rooms(1, views=4, seed=DEMO_SEED)[0]
    return replace(room, name="demo")


def load_scene(source: Source, *, max_frames: int | None = None) -> Scene:
    """Load one scene.

    Args:
        source: "demo"; a folder of pictures (natural order, image_2 before image_10); a list of picture files,
            in the order given; one picture; a film; or a Scene, which is returned as it is.
        max_frames: Keep at most so many pictures, evenly spaced. A film gives 8 without it; more than 100
            pictures are refused without it.

    Raises:
        SceneError: There is no such scene, or a file cannot be used; the error names it.
    """
    _check_max_frames(max_frames)
    if isinstance(source, Scene):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _load_named(os.fspath(source), max_frames)
    if not isinstance(source, (list, tuple)):
        raise SceneError(
            f"a {type(source).__name__} is no scene",
            remedy="Give a name, a folder, a list of files or a film.",
        )
    paths = [_path(item) for item in source]
    if len(paths) == 1:
        return _load_path(paths[0], max_frames)
    films = [path for path in paths if path.suffix.lower() in video.SUFFIXES]
    if films:
        raise SceneError(
            "a film and other files do not make one scene", place=str(films[0]), remedy="Load the film alone."
        )
    return _load_pictures(f"{len(paths)} pictures", paths, max_frames)


def load_scenes(
    source: Source, *, views: int = 4, seed: int = 0, max_frames: int | None = None, split: str = "held-out"
) -> list[Scene]:
    """Load several scenes: "rooms:N" is N rooms of the generator; anything else is one scene, in a list.

    Args:
        source: "rooms:8", or what ``load_scene`` takes.
        views: Pictures of each room.
        seed: Which rooms; room 5 of 8 is room 5 of 100.
        max_frames: As in ``load_scene``.
        split: Of the rooms: "held-out" to judge on, "calibration" to calibrate on; they never coincide.

    Raises:
        SceneError: As ``load_scene``; or a number of rooms that is none.
    """
    if not isinstance(source, str) or not source.startswith("rooms:"):
        return [load_scene(source, max_frames=max_frames)]
    count = _room_count(source)
    if not _is_count(views) or views > MOST_IMAGES:
        raise SceneError(f"{views} views make no scene", place=source, remedy=f"Choose 1 to {MOST_IMAGES}.")
    from quantlab.scenes.synthetic import rooms  # imports torch

    return rooms(count, views=views, seed=seed, split=split)


def _room_count(name: str) -> int:
    match = re.fullmatch(r"rooms:([0-9]{1,6})", name)
    if not match or not 1 <= int(match[1]) <= MOST_ROOMS:
        raise SceneError(
            f"{name!r} is no number of rooms",
            place=name,
            remedy=f"Write rooms:N with N from 1 to {MOST_ROOMS}.",
        )
    return int(match[1])


def _load_named(name: str, max_frames: int | None) -> Scene:
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name.startswith("rooms:"):
        if _room_count(name) != 1:
            raise SceneError(f"{name!r} is several scenes", place=name, remedy="Load them with load_scenes.")
        return load_scenes(name)[0]
    return _load_path(_path(name), max_frames)


def _path(name: object) -> Path:
    if name == "":
        raise SceneError(
            "the name is empty",
            remedy="Give a folder, picture files, a film, 'demo', or 'rooms:8' for eight rooms.",
        )
    if isinstance(name, (str, os.PathLike)):
        path = Path(name)
        try:
            path.stat()
            return path
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            reason = getattr(error, "strerror", None) or error
            near = get_close_matches(str(name), BUILT_IN, n=1)
            hint = (
                f"Did you mean {near[0]!r}?" if near else "Give a folder, picture files, a film, or 'demo'."
            )
            raise SceneError(f"there is no such scene: {reason}", place=str(name), remedy=hint) from error
    raise SceneError(f"a {type(name).__name__} names no file", remedy="Give the names of picture files.")


def _load_path(path: Path, max_frames: int | None) -> Scene:
    if path.is_dir():
        return _load_folder(path, max_frames)
    if path.suffix.lower() in video.SUFFIXES:
        wanted = max_frames or video.DEFAULT_FRAMES
        frames, notes = video.read_video(path, wanted)
        origin = Files((path.absolute(),), frames=wanted)
        return Scene(name=path.name, images=frames, notes=notes, origin=origin)
    return _load_pictures(path.name, [path], max_frames)


def _load_folder(folder: Path, max_frames: int | None) -> Scene:
    pictures, foreign = images.list_folder(folder)
    if not pictures:
        inside = [name for name in ("images", "rgb", "frames") if (folder / name).is_dir()]
        hint = f"Pass its folder {inside[0]!r}." if inside else f"Put {images.FORMATS_TEXT} files into it."
        found = f", only {foreign[0]}" if foreign else ""
        raise SceneError(
            f"the folder has no pictures that can be read{found}", place=str(folder), remedy=hint
        )
    scene = _load_pictures(folder.resolve().name, pictures, max_frames)
    if not foreign:
        return scene
    note = f"{len(foreign)} files left out, not {images.FORMATS_TEXT}: {', '.join(foreign[:3])}"
    return replace(scene, notes=(*scene.notes, note))


def _load_pictures(name: str, paths: list[Path], max_frames: int | None) -> Scene:
    if max_frames is None and len(paths) > MOST_IMAGES:
        raise SceneError(
            f"{len(paths)} pictures are more than {MOST_IMAGES}",
            place=name,
            remedy="Say with max_frames how many to take, evenly spaced.",
        )
    kept = evenly(paths, max_frames or len(paths))
    pixels, notes = images.read_images(kept)
    if len(kept) < len(paths):
        notes = (*notes, f"{len(kept)} of {len(paths)} pictures, evenly spaced")
    origin = Files(tuple(path.absolute() for path in kept))
    return Scene(name=name, images=pixels, notes=notes, origin=origin)


def evenly(items: list[Path], count: int) -> list[Path]:
    """Choose ``count`` items from first to last at equal steps; all, if there are no more."""
    if count >= len(items):
        return list(items)
    if count == 1:
        return items[:1]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _check_max_frames(max_frames: int | None) -> None:
    if max_frames is not None and not _is_count(max_frames):
        raise SceneError(
            f"{max_frames!r} is no number of frames", place="max_frames", remedy="Give a whole number from 1."
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
