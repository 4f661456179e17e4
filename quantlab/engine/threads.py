"""How many threads suit a network, for QuantLab's own processes (app, command line). A library call sets none."""

from __future__ import annotations

import os

import torch
from torch import nn

SMALL_PARAMETERS = 50_000_000
CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def fit_threads(network: nn.Module) -> int:
    """Give a small network one thread, and return the number in force.

    Its products are so short that waiting for a second thread costs more than it saves, and a hundred times more
    when a browser drawing in software wants the same cores. What the user set in the environment stays.
    """
    small = sum(parameter.numel() for parameter in network.parameters()) < SMALL_PARAMETERS
    if not any(name in os.environ for name in CHOSEN_BY_USER):
        torch.set_num_threads(1 if small else max(1, os.cpu_count() or 1))
    return torch.get_num_threads()
