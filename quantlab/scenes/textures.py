"""Procedural surface textures: seeded colour images without repetition. Not a renderer."""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi

SIZE = 128
"""Side of a square texture in texels."""


def make_textures(hues: np.ndarray, seed: int) -> np.ndarray:
    """Paint one texture per hue: a tinted base, soft clouds, and a few large shapes in other colours.

    A texture never repeats itself, so that one look at a wall tells where on the wall one looks; it is
    smooth at the scale of a texel, so that point sampling does not alias.

    Args:
        hues: Base hue of each texture, [N], in [0, 1).
        seed: Decides clouds and shapes.

    Returns:
        float32 [N, SIZE, SIZE, 3], linear values in [0, 1].
    """
    rng = np.random.default_rng([seed, 77])
    return np.stack([_paint(float(hue), rng) for hue in hues]).astype(np.float32)


def _paint(hue: float, rng: np.random.Generator) -> np.ndarray:
    clouds = _noise(rng, 14) * 0.5 + _noise(rng, 5) * 0.25
    canvas = _rgb(hue, 0.24, 0.78)[None, None] * (1.0 + 0.35 * clouds[..., None])
    rows, cols = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    for _ in range(10):
        center, size = rng.uniform(0.08, 0.92, 2), rng.uniform(0.05, 0.16, 2)
        color = _rgb(hue + rng.normal(0, 0.2), rng.uniform(0.2, 0.65), rng.uniform(0.25, 0.95))
        down, right = (rows - center[0]) / size[0], (cols - center[1]) / size[1]
        inside = np.maximum(abs(down), abs(right)) < 1 if rng.random() < 0.6 else down**2 + right**2 < 1
        canvas = np.where(inside[..., None], color * (1.0 + 0.2 * clouds[..., None]), canvas)
    return np.clip(ndi.gaussian_filter(canvas, (1.2, 1.2, 0)), 0.02, 1.0)


def _noise(rng: np.random.Generator, radius: float) -> np.ndarray:
    field = ndi.gaussian_filter(rng.normal(size=(SIZE, SIZE)), radius)
    return field / abs(field).max()


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """Convert hue, saturation, value to RGB, all in [0, 1]; the hue wraps."""
    ramp = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation + saturation * ramp)
