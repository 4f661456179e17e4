"""Hadamard matrices of +1 and -1 by the constructions of Sylvester and Paley, over prime fields. No rotation
yet.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

MAX_ORDER = 128  # beyond, a dense product costs more than the finer mixing brings


@cache
def paley_orders() -> tuple[int, ...]:
    """The orders up to `MAX_ORDER`, ascending, that Paley's constructions reach and Sylvester's does not."""
    orders = range(4, MAX_ORDER + 1, 4)
    return tuple(order for order in orders if order & (order - 1) and _paley_prime(order))


def hadamard_matrix(order: int) -> NDArray[np.float64]:
    """A square matrix of +1 and -1 whose rows are orthogonal, float64 ``[order, order]``.

    Args:
        order: A power of two, or one of `paley_orders`.

    Raises:
        ValueError: No construction here reaches ``order``.

    Source:
        R. Paley, On orthogonal matrices, J. Math. Phys. 12 (1933).
    """
    if order >= 1 and order & (order - 1) == 0:
        return _sylvester(order)
    prime = _paley_prime(order)
    if not prime:
        raise ValueError(f"no Hadamard matrix of order {order} is constructed here")
    return _paley_one(prime) if prime == order - 1 else _paley_two(prime)


def _sylvester(order: int) -> NDArray[np.float64]:
    matrix = np.ones((1, 1))
    while len(matrix) < order:
        matrix = np.kron(matrix, np.array([[1.0, 1.0], [1.0, -1.0]]))
    return matrix


def _paley_prime(order: int) -> int:
    """The prime q with order = q + 1, q = 3 mod 4, or order = 2 (q + 1), q = 1 mod 4; 0 where there is
    none.
    """
    if _is_prime(order - 1) and (order - 1) % 4 == 3:
        return order - 1
    half = order // 2 - 1
    return half if order % 2 == 0 and half % 4 == 1 and _is_prime(half) else 0


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _jacobsthal(prime: int) -> NDArray[np.float64]:
    """``[q, q]`` with 1 where row minus column is a square in the field, -1 where not, 0 on the diagonal."""
    character = -np.ones(prime)
    character[np.arange(1, prime) ** 2 % prime] = 1
    character[0] = 0
    index = np.arange(prime)
    matrix: NDArray[np.float64] = character[(index[:, None] - index[None, :]) % prime]
    return matrix


def _paley_one(prime: int) -> NDArray[np.float64]:
    """Order q + 1: a skew conference matrix plus the identity."""
    skew = np.zeros((prime + 1, prime + 1))
    skew[0, 1:], skew[1:, 0], skew[1:, 1:] = 1, -1, _jacobsthal(prime)
    np.fill_diagonal(skew, 1)
    return skew


def _paley_two(prime: int) -> NDArray[np.float64]:
    """Order 2 (q + 1): a symmetric conference matrix with each entry replaced by a 2 x 2 block."""
    conference = np.zeros((prime + 1, prime + 1))
    conference[0, 1:], conference[1:, 0], conference[1:, 1:] = 1, 1, _jacobsthal(prime)
    off_diagonal = np.array([[1.0, 1.0], [1.0, -1.0]])
    diagonal = np.array([[1.0, -1.0], [-1.0, -1.0]])
    return np.kron(conference, off_diagonal) + np.kron(np.eye(prime + 1), diagonal)
