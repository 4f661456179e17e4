"""Runs scenes through a network and shows every layer's input to observers. It keeps nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantlab.calibration.running import hooked, memory_errors, present, scene_name, watched
from quantlab.errors import SceneError
from quantlab.jobs import Job, part, step
from quantlab.models.structure import LayerInfo, Structure, TokenLayout

Run = Callable[[Any], object]


@runtime_checkable
class Observer(Protocol):
    """What looks at layer inputs."""

    def see(self, info: LayerInfo, x: Tensor, kinds: NDArray[np.uint8], scene: int) -> None:
        """Look at one input of one layer; ``x`` must not be kept or changed.

        Args:
            info: The layer.
            x: Its input: [..., tokens, channels], or [images, channels, rows, columns] for a convolution.
            kinds: uint8 [tokens], kind codes of one sequence (one entry for a convolution).
            scene: Index of the scene.
        """


def observe(
    network: nn.Module,
    structure: Structure,
    run: Run | None,
    inputs: Iterable[Any],
    layouts: Sequence[TokenLayout | None] = (),
    *,
    observers: Sequence[Observer],
    layers: Iterable[str] | None = None,
    scenes: Sequence[str] = (),
    job: Job | None = None,
) -> int:
    """Run every input once and show each layer call to the observers; memory does not grow with the scenes.

    Args:
        network: Hooked while this runs and never after, whatever happens.
        structure: Its layers, blocks and token kinds.
        run: Called with each input; must call ``network``. None calls the network itself.
        inputs: One entry a scene; a generator is read one by one.
        layouts: Token layout of each input; missing ones mean that all tokens are patches.
        observers: Shown every layer call, in turn.
        layers: Names to look at; all by default.
        scenes: Names for progress and errors.
        job: Checked before every layer, told of every block.

    Returns:
        The number of scenes.

    Raises:
        SceneError: There is no input.
        DeviceError: Memory ran out.
    """
    call = run or network
    watch = _Watch(structure, observers)
    names = present(network, structure.layers if layers is None else dict.fromkeys(layers))
    total = len(inputs) if isinstance(inputs, Sequence) else 0
    count = 0
    with torch.no_grad(), hooked(network, [(name, watch.hook(name)) for name in names]):
        for index, entry in enumerate(inputs):
            name = scene_name(scenes, index)
            step(job, index, total, name)
            watch.begin(index, layouts[index] if index < len(layouts) else None)
            section = part(job, index, total) if total else job
            with watched(network, structure, section, name), memory_errors("calibration", entry):
                call(entry)
            count += 1
    if not count:
        raise SceneError("there is no scene to look at", place="calibration", remedy="Give at least one.")
    return count


class _Watch:
    """The hooks' shared state: which scene runs, and the token kinds worked out for it."""

    def __init__(self, structure: Structure, observers: Sequence[Observer]) -> None:
        self._structure = structure
        self._observers = observers
        self._scene = 0
        self._layout: TokenLayout | None = None
        self._kinds: dict[tuple[str, int], NDArray[np.uint8]] = {}

    def begin(self, scene: int, layout: TokenLayout | None) -> None:
        if layout != self._layout:
            self._kinds.clear()
        self._scene, self._layout = scene, layout

    def hook(self, name: str) -> Callable[..., None]:
        info = self._structure.layers[name]

        def see(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(x, Tensor) and x.numel():
                kinds = self._kinds_of(info, x)
                for observer in self._observers:
                    observer.see(info, x, kinds, self._scene)

        return see

    def _kinds_of(self, info: LayerInfo, x: Tensor) -> NDArray[np.uint8]:
        stream, tokens = info.stream, 1 if info.operator != "linear" or x.dim() < 2 else x.shape[-2]
        if info.operator != "linear":
            stream = ""  # pixels of maps: patches, whatever the stream
        known = self._kinds.get((stream, tokens))
        if known is None:
            known = self._structure.token_kinds(stream, tokens, self._layout)
            self._kinds[stream, tokens] = known
        return known
