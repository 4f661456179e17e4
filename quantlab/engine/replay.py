"""Memory of what each block of a network made of which input, so that an edit re-runs only what it can change.

It knows nothing of quantization: a block's state is any token that the caller changes with the block.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

PLAIN = (int, float, str, bool, type(None), torch.dtype, torch.device, torch.Size)
"""Types of arguments other than tensors that can be compared safely; anything else is never cached."""
PATIENCE = 4
"""Rounds that an entry may stay unused before a newer one may take its memory."""
RECENT = 16


@dataclass(slots=True, eq=False)
class _Entry:
    state: Hashable
    inputs: list[Any]
    outputs: list[Any]
    tree: Any
    used: int


class BlockCache:
    """Memoizes blocks: one is skipped if and only if its state and its inputs, bit for bit, are those of a stored run.

    Everything that is stored is a private copy, so nobody can change it from outside. A hit compares every input
    with `torch.equal`; nothing rests on hashes. Memory stays under ``limit_bytes``: an entry makes room when its
    block has another state by now, or when it was not used for some rounds; otherwise the newcomer is not stored (a
    least-recently-used rule would lose every entry when one round is larger than the memory).

    Attributes:
        executed: Names of the blocks that really ran, in order, since the last round began.
        skipped: Names of the blocks answered from memory since then.
    """

    def __init__(self, *, limit_bytes: int = 2 << 30) -> None:
        self.limit_bytes = limit_bytes
        self.executed: list[str] = []
        self.skipped: list[str] = []
        self._entries: OrderedDict[tuple[Hashable, ...], list[_Entry]] = OrderedDict()
        self._holders: Counter[int] = Counter()
        self._bytes = 0
        self._round = 0
        self._states: Mapping[str, Hashable] = {}
        self._answers, self._stores = True, True
        self._recent: deque[tuple[int, Tensor]] = deque(maxlen=RECENT)

    @property
    def bytes(self) -> int:
        """Memory held by stored inputs and outputs."""
        return self._bytes

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._holders.clear()
        self._recent.clear()
        self._bytes = 0

    @contextmanager
    def installed(
        self,
        network: nn.Module,
        states: Mapping[str, Hashable],
        *,
        answers: bool = True,
        stores: bool = True,
    ) -> Iterator[BlockCache]:
        """Answer the blocks of ``network`` from memory where that is exact; one round.

        Args:
            network: Its blocks are wrapped inside the context and are themselves again after it, whatever happens.
            states: Block name to a token that differs whenever the block would compute something else, blocks
                inside it apart. What is not named here runs as it is; the name "" is ignored.
            answers: False runs every block, so that hooks inside see it and time is true.
            stores: False only looks up.
        """
        self._round += 1
        self._answers, self._stores = answers, stores
        # What lies inside a block belongs to its state: a head may hold blocks of its own.
        self._states = {
            name: tuple((n, state) for n, state in states.items() if n == name or n.startswith(f"{name}."))
            for name in states
            if name
        }
        self.executed, self.skipped = [], []
        with ExitStack() as stack:
            stack.callback(self._recent.clear)
            for name in self._states:
                stack.callback(self._wrap(name, network.get_submodule(name)))
            yield self

    def _wrap(self, name: str, block: nn.Module) -> Callable[[], None]:
        """Put the memory in front of a block's forward; returns what takes it away again."""
        original = block.forward
        had = block.__dict__.get("forward")

        def forward(*args: Any, **kwargs: Any) -> Any:
            return self._answer(name, block, original, args, kwargs)

        def restore() -> None:
            if had is None:
                block.__dict__.pop("forward", None)
            else:
                block.__dict__["forward"] = had

        block.__dict__["forward"] = forward
        return restore

    def _answer(
        self, name: str, block: nn.Module, original: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        leaves, tree = pytree.tree_flatten((args, kwargs))
        if torch.is_grad_enabled() or not all(map(_storable, leaves)):
            self.executed.append(name)
            return original(*args, **kwargs)
        key = (name, block.training, str(tree), *map(_outline, leaves), *_autocast(leaves))
        state = self._states[name]
        for entry in self._entries.get(key, ()):
            if entry.state == state and all(map(_same, entry.inputs, leaves)):
                entry.used = self._round
                self._entries.move_to_end(key)
                if not self._answers:
                    break
                self.skipped.append(name)
                return pytree.tree_unflatten([_copy(leaf) for leaf in entry.outputs], entry.tree)
        else:
            if self._stores:
                return self._execute(name, key, original, args, kwargs)
        self.executed.append(name)
        return original(*args, **kwargs)

    def _execute(
        self, name: str, key: tuple[Hashable, ...], original: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        # The inputs are copied first: the block may change them in place.
        inputs = [self._kept(leaf) for leaf in pytree.tree_leaves((args, kwargs))]
        output = original(*args, **kwargs)
        self.executed.append(name)
        leaves, tree = pytree.tree_flatten(output)
        if all(map(_storable, leaves)):
            outputs = [self._kept(leaf) for leaf in leaves]
            self._store(key, _Entry(self._states[name], inputs, outputs, tree, self._round))
        return output

    def _kept(self, leaf: Any) -> Any:
        """A private copy; what was copied a moment ago (one block's output is the next one's input) is shared."""
        if not isinstance(leaf, Tensor):
            return leaf
        for address, copy in self._recent:
            if address == leaf.data_ptr() and leaf.is_contiguous() and _holds(copy, leaf):
                return copy.view(leaf.shape)
        copy = _copy(leaf)
        if copy.is_contiguous():
            self._recent.append((leaf.data_ptr(), copy))
        return copy

    def _store(self, key: tuple[Hashable, ...], entry: _Entry) -> None:
        self._hold(entry)
        while self._bytes > self.limit_bytes:
            victim = self._disposable()
            if victim is None:
                self._release(entry)
                return
            self._drop(*victim)
        self._entries.setdefault(key, []).append(entry)
        self._entries.move_to_end(key)

    def _disposable(self) -> tuple[tuple[Hashable, ...], _Entry] | None:
        """The least recently used entry that cannot be of use in this round."""
        for key, entries in self._entries.items():
            for entry in entries:
                stale = entry.used <= self._round - PATIENCE
                if stale or (entry.used < self._round and entry.state != self._states.get(str(key[0]))):
                    return key, entry
        return None

    def _drop(self, key: tuple[Hashable, ...], entry: _Entry) -> None:
        self._entries[key].remove(entry)
        if not self._entries[key]:
            del self._entries[key]
        self._release(entry)

    def _hold(self, entry: _Entry) -> None:
        for tensor in _tensors(entry):
            if not self._holders[tensor.data_ptr()]:
                self._bytes += tensor.nbytes
            self._holders[tensor.data_ptr()] += 1

    def _release(self, entry: _Entry) -> None:
        for tensor in _tensors(entry):
            self._holders[tensor.data_ptr()] -= 1
            if not self._holders[tensor.data_ptr()]:
                del self._holders[tensor.data_ptr()]
                self._bytes -= tensor.nbytes


def _tensors(entry: _Entry) -> list[Tensor]:
    return [leaf for leaf in (*entry.inputs, *entry.outputs) if isinstance(leaf, Tensor) and leaf.numel()]


def _storable(leaf: Any) -> bool:
    """Expanded tensors are not: a copy could not have their strides."""
    if isinstance(leaf, Tensor):
        return leaf.layout == torch.strided and all(
            step or size < 2 for size, step in zip(leaf.shape, leaf.stride(), strict=True)
        )
    return isinstance(leaf, PLAIN)


def _outline(leaf: Any) -> Hashable:
    """What can be compared without reading the values; strides too, because other ones may take another kernel."""
    if isinstance(leaf, Tensor):
        return leaf.dtype, tuple(leaf.shape), leaf.stride(), leaf.device
    return type(leaf), leaf


def _same(stored: Any, given: Any) -> bool:
    """Outlines are equal already, being part of the key."""
    return torch.equal(stored, given) if isinstance(stored, Tensor) else True


def _copy(leaf: Any) -> Any:
    """A copy with the same strides, so that what follows computes the same bits."""
    if not isinstance(leaf, Tensor):
        return leaf
    return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=leaf.device).copy_(leaf)


def _holds(copy: Tensor, leaf: Tensor) -> bool:
    """Whether a contiguous copy holds the values of a contiguous tensor, of whatever shape."""
    alike = copy.numel() == leaf.numel() and copy.dtype == leaf.dtype and copy.device == leaf.device
    return alike and torch.equal(copy.view(leaf.shape), leaf)


def _autocast(leaves: list[Any]) -> tuple[Hashable, ...]:
    """The precision in force around the call, which changes what a block computes."""
    device = next((leaf.device.type for leaf in leaves if isinstance(leaf, Tensor)), "cpu")
    return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
