"""Clusters of points, shares of them, and a flat picture of them: seeded arithmetic. It knows no scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESTARTS = 10
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def clustered(points: Floats, count: int, seed: int) -> tuple[Integers, Floats]:
    """K-means of points [N, F] in at most ``count`` clusters: label of each point, and centres [K, F].

    Labels are ordered by centre, and the points are visited in the order of their values, so that neither the order of
    the pool nor the machine decides. There are never more clusters than different points.
    """
    from sklearn.cluster import KMeans  # slow to import

    order = np.lexsort(points.T[::-1])
    kinds = min(count, len(np.unique(points, axis=0)))
    model = KMeans(kinds, n_init=RESTARTS, random_state=seed % 2**32).fit(points[order])
    ranked = np.lexsort(model.cluster_centers_.T[::-1])
    rank = np.argsort(ranked)
    labels = np.empty(len(points), dtype=np.int64)
    labels[order] = rank[model.labels_]
    return labels, np.asarray(model.cluster_centers_[ranked], dtype=np.float64)


def even(sizes: Integers, count: int) -> Integers:
    """How many to take of clusters of these sizes so that ``count`` are spread as evenly as the sizes allow."""
    taken = np.zeros_like(sizes)
    for _ in range(count):
        open_to = np.flatnonzero(taken < sizes)
        taken[open_to[np.lexsort((-sizes[open_to], taken[open_to]))[0]]] += 1
    return taken


def proportional(sizes: Integers, count: int) -> Integers:
    """Shares of ``count`` in proportion to the sizes by largest remainder, each cluster one where there are enough."""
    least = np.minimum(sizes, 1) if count >= len(sizes) else np.zeros_like(sizes)
    exact = sizes * (count / sizes.sum())
    taken = np.minimum(np.maximum(np.floor(exact).astype(np.int64), least), sizes)
    while taken.sum() > count:
        taken[np.argmax(np.where(taken > least, taken - exact, -np.inf))] -= 1
    while taken.sum() < count:
        taken[np.argmax(np.where(taken < sizes, exact - taken, -np.inf))] += 1
    return taken


def flat(points: Floats, kept: Integers | None = None) -> tuple[Floats, float]:
    """Points [N, F] on the first two principal components of those ``kept`` (indices; None: all), as [N, 2].

    What was left out is projected too, but does not turn the axes; the other result is the share of the variance of
    the kept ones that the picture shows.
    """
    inside = points if kept is None else points[kept]
    middle = inside.mean(axis=0)
    _, lengths, axes = np.linalg.svd(inside - middle, full_matrices=False)
    total = float((lengths**2).sum())
    positions = np.zeros((len(points), 2))
    for index, direction in enumerate(axes[:2]):
        sign = 1.0 if direction[np.argmax(np.abs(direction))] > 0 else -1.0
        positions[:, index] = sign * ((points - middle) @ direction)
    return positions, float((lengths[:2] ** 2).sum()) / total if total > 0 else 1.0
