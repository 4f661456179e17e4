"""Evenly spaced frames of a film. Not a player: a handful of frames is kept, however long the film is.

Films come from strangers. ffmpeg would follow a playlist that calls itself .mp4 to other files and to
the network, so it is handed an open file, a list of containers, and no way to open anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import SceneError
from quantlab.scenes.images import IMAGE_PIXELS, SCENE_BYTES

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SUFFIXES = frozenset(
    (
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".m2ts",
        ".mts",
        ".3gp",
        ".ogv",
        ".flv",
        ".wmv",
    )
)
DEFAULT_FRAMES = 8
SEEK_FROM = 10
"""Films with more than this many times the wanted frames are sought through instead of decoded whole."""

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,ogg,flv,asf"


def read_video(
    path: Path, frames: int = DEFAULT_FRAMES
) -> tuple[tuple[NDArray[np.uint8], ...], tuple[str, ...]]:
    """Take ``frames`` frames, each from about the middle of one of as many equal stretches, or all there are.

    Returns:
        Pictures uint8 [H, W, 3] RGB, upright, in order of time; and notes.

    Raises:
        SceneError: The file cannot be read, is no film, or has no frames.
    """
    import av  # ffmpeg's libraries: loaded when there is a film

    try:
        if path.stat().st_size == 0:
            raise SceneError("the file is empty", place=str(path), remedy="Copy or download it again.")
        with (
            path.open("rb") as file,
            av.open(file, options={"format_whitelist": _CONTAINERS}, io_open=_refuse) as container,
        ):
            if not container.streams.video:
                raise SceneError("the film has no picture", place=str(path), remedy="Choose another file.")
            images = _sample(container, container.streams.video[0], frames, str(path))
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise SceneError(
            f"the film cannot be read: {getattr(error, 'strerror', None) or error}",
            place=str(path),
            remedy="Convert it to MP4 (H.264), or give its frames as pictures.",
        ) from error
    if not images:
        raise SceneError("the film has no frames", place=str(path), remedy="Record or download it again.")
    note = f"{len(images)} frames, evenly spaced over the film"
    return tuple(images), (note,)


def _refuse(*_request: object) -> NoReturn:
    raise OSError("the film refers to other files")


def _sample(
    container: InputContainer, stream: VideoStream, frames: int, place: str
) -> list[NDArray[np.uint8]]:
    stream.thread_type = "AUTO"
    seconds = _duration(container, stream)
    expected = stream.frames or seconds * float(stream.average_rate or 0)
    if seconds > 0 and expected > SEEK_FROM * frames:
        found = _by_seeking(container, stream, [(i + 0.5) * seconds / frames for i in range(frames)], place)
        if len(found) == frames:
            return found
        container.seek(0)
    return _by_decoding(container.decode(stream), frames, place)


def _duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds of the film by its own account, 0 when it does not say."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6


def _by_seeking(
    container: InputContainer, stream: VideoStream, times: list[float], place: str
) -> list[NDArray[np.uint8]]:
    """Jump to the key frame before each time and decode from there; each frame is taken once."""
    unit = float(stream.time_base or 0)
    if unit <= 0:
        return []
    taken: dict[int, NDArray[np.uint8]] = {}
    for time in times:
        target = int(time / unit) + (stream.start_time or 0)
        container.seek(target, stream=stream)
        reached = (
            frame for frame in container.decode(stream) if frame.pts is not None and frame.pts >= target
        )
        frame = next(reached, None)
        if frame is not None and frame.pts is not None and frame.pts not in taken:
            taken[frame.pts] = _pixels(frame, len(times), place)
    return [taken[pts] for pts in sorted(taken)]


def _by_decoding(stream: Iterator[VideoFrame], frames: int, place: str) -> list[NDArray[np.uint8]]:
    """Decode all, keeping at most 2 x ``frames``: whenever that many are held, every second one goes."""
    held: list[NDArray[np.uint8]] = []
    stride = 1
    for index, frame in enumerate(stream):
        if index % stride:
            continue
        held.append(_pixels(frame, 2 * frames, place))
        if len(held) > 2 * frames:
            held, stride = held[::2], 2 * stride
    if len(held) <= frames:
        return held
    return [held[int((i + 0.5) * len(held) / frames)] for i in range(frames)]


def _pixels(frame: VideoFrame, count: int, place: str) -> NDArray[np.uint8]:
    pixels = frame.width * frame.height
    if pixels > IMAGE_PIXELS or 3 * pixels * count > SCENE_BYTES:
        raise SceneError(
            f"{count} frames of {frame.width} x {frame.height} pixels are too much",
            place=place,
            remedy="Choose fewer frames with max_frames, or shrink the film.",
        )
    # the rotation a phone writes beside the frames, counterclockwise; ffmpeg's decoder leaves it to us
    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(turned, dtype=np.uint8)
