"""What a lab works on: a network, how a scene becomes its input, how it runs and is read. It quantizes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantlab.errors import CheckpointError, SceneError
from quantlab.models.family import family_by_outputs, layout_of
from quantlab.models.model import Model
from quantlab.models.prediction import Prediction
from quantlab.models.structure import Structure, TokenLayout, describe
from quantlab.scenes.scene import Scene, Truth

Predict = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """One network under test; the same for a Model of this package and for any torch module.

    Attributes:
        name: What people call it.
        network: Never changed and never run: its twins are, in evaluation mode.
        structure: Its layers, branches and blocks.
        prepare: From a scene (or whatever the network eats) to the network's input.
        run: ``run(network, input)`` gives outputs by name; the network may be a quantized twin.
        layout: How the tokens of an input lie, or None where there are none.
        decode: From outputs and input to a Prediction, or to None where the outputs are no reconstruction.
        cloud: As ``decode``, but only its points, as a tensor [S, H, W, 3] that gradients pass through.
        any_pictures: Whether ``prepare`` fits pictures of any size to the network.
        planted: Outliers were planted artificially.
        check: Raises CheckpointError where the file that the weights are mapped from was overwritten.
    """

    name: str
    network: nn.Module
    structure: Structure
    prepare: Callable[[Any], Any]
    run: Callable[[nn.Module, Any], dict[str, Tensor]]
    layout: Callable[[Any], TokenLayout | None]
    decode: Callable[[Mapping[str, Tensor], Any], Prediction | None]
    cloud: Callable[[Mapping[str, Tensor], Any], Tensor | None] = lambda _outputs, _value: None
    any_pictures: bool = False
    planted: bool = False
    check: Callable[[], None] = lambda: None


def subject_of(model: Model | nn.Module, predict: Predict | None = None) -> Subject:
    """Wrap a Model, or any module together with ``predict(module, input)`` (default: call it).

    The outputs of a bare module may be a tensor, or a tuple or mapping of tensors. Outputs under the published names
    of VGGT or Pi3 are read as a reconstruction, and tokens told apart where the module has their parts: an upstream
    VGGT or Pi3 can be passed as it is.

    Raises:
        CheckpointError: It is neither.
    """
    if isinstance(model, Model):
        return _subject_of_model(model)
    if not isinstance(model, nn.Module):
        raise CheckpointError(
            f"a {type(model).__name__} is no model", remedy="Pass ql.load_model('mini'), or a torch module."
        )
    call, name = predict or _call, type(model).__name__
    return Subject(
        name=name,
        network=model,
        structure=describe(model),
        prepare=_pictures_or_input,
        run=lambda network, value: _without_input(named_outputs(call(network, value))),
        layout=lambda value: _published_layout(model, value),
        decode=lambda outputs, value: _published_prediction(outputs, value, name),
        cloud=_published_cloud,
    )


def named_outputs(value: Any, name: str = "output") -> dict[str, Tensor]:
    """Every floating tensor in a nested output, under a dotted name."""
    if isinstance(value, Tensor):
        return {name: value} if value.is_floating_point() else {}
    if isinstance(value, Mapping):
        parts = {str(key): part for key, part in value.items()}
    elif isinstance(value, list | tuple):
        parts = {str(index): part for index, part in enumerate(value)}
    else:
        return {}
    top = name == "output"
    found: dict[str, Tensor] = {}
    for key, part in parts.items():
        found |= named_outputs(part, key if top else f"{name}.{key}")
    return found


def scene_label(scene: Any, index: int) -> str:
    """The name of a scene, or its number for bare inputs."""
    return scene.name if isinstance(scene, Scene) else f"input {index + 1}"


def truth_of(scene: Any) -> Truth | None:
    """The ground truth that a scene came with, if any."""
    return scene.truth if isinstance(scene, Scene) else None


def _subject_of_model(model: Model) -> Subject:
    def prepare(scene: Any) -> Tensor:
        if isinstance(scene, Tensor):
            return scene
        if not isinstance(scene, Scene):
            return model.preprocess(scene)
        try:
            return model.preprocess(scene.images)
        except SceneError as error:
            place = f"{scene.name}, {error.place}".removesuffix(", ")
            raise SceneError(error.problem, place=place, remedy=error.remedy) from None

    def run(network: nn.Module, tensor: Tensor) -> dict[str, Tensor]:
        model.check_files()
        return _without_input(network(tensor.to(model.device)))

    return Subject(
        name=model.name,
        network=model.network,
        structure=describe(model.network),
        prepare=prepare,
        run=run,
        layout=model.token_layout,
        decode=model.decode,
        cloud=_published_cloud,
        any_pictures=True,
        planted=model.planted,
        check=model.check_files,
    )


def _without_input(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what a known family hands back of its input: that is no output to compare."""
    family = family_by_outputs(outputs)
    return {key: value for key, value in outputs.items() if family is None or key not in family.echoes}


def _is_pictures(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 5 and value.shape[:1] == (1,) and value.shape[2] == 3


def _published_layout(network: nn.Module, value: Any) -> TokenLayout | None:
    return layout_of(network, value) if _is_pictures(value) else None


def _published_prediction(outputs: Mapping[str, Tensor], value: Any, name: str) -> Prediction | None:
    family = family_by_outputs(outputs)
    return family.decode(outputs, value, name, "depth") if family and _is_pictures(value) else None


def _published_cloud(outputs: Mapping[str, Tensor], value: Any) -> Tensor | None:
    family = family_by_outputs(outputs)
    return family.cloud(outputs, value) if family and _is_pictures(value) else None


def _call(network: nn.Module, value: Any) -> Any:
    if isinstance(value, Mapping):
        return network(**value)
    return network(*value) if isinstance(value, tuple) else network(value)


def _pictures_or_input(scene: Any) -> Any:
    """A bare module takes its input as it is; a Scene becomes float32 [1, S, 3, H, W] in [0, 1]."""
    if not isinstance(scene, Scene):
        return scene
    if len({image.shape for image in scene.images}) != 1:
        raise SceneError(
            "pictures of different sizes cannot go into a bare module",
            place=scene.name,
            remedy="Pass the module's own input, or resize the pictures.",
        )
    stacked = torch.stack([torch.from_numpy(image.copy()) for image in scene.images])
    return stacked.permute(0, 3, 1, 2)[None].float() / 255
