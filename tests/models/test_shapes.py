"""A network built for its shapes alone: names, shapes and dtypes of the real one, and no numbers."""

from __future__ import annotations

import pytest
import torch

import quantlab as ql
from quantlab.models.shapes import shapes_only


@pytest.mark.parametrize("name", ["mini", "pi3-mini"])
def test_names_shapes_and_dtypes_are_those_of_the_real_network(name):
    network = ql.load_model(name).network
    empty = ql.build_model(network.kind, network.sizes.to_dict(), device="meta")
    assert described(empty) == described(network)
    assert all(parameter.is_meta for parameter in empty.parameters())


def test_a_dtype_that_is_asked_for_is_kept():
    with shapes_only():
        made = (
            torch.zeros(3, dtype=torch.int64),
            torch.full((2, 2), 1.0, dtype=torch.bfloat16),
            torch.randn(4),
        )
    assert [(tuple(one.shape), one.dtype) for one in made] == [
        ((3,), torch.int64),
        ((2, 2), torch.bfloat16),
        ((4,), torch.float32),
    ]
    assert all(one.is_meta for one in made)


def described(network):
    tensors = (*network.named_parameters(), *network.named_buffers())
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors}
