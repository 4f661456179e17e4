"""Finding weight files: the user's model folder, the hub's cache, a download. It opens none of them."""

from __future__ import annotations

import os
from pathlib import Path

from quantlab.errors import CheckpointError

HUB_FILES = {
    "vggt-1b": ("facebook/VGGT-1B", "model.safetensors"),
    "pi3": ("yyfz233/Pi3", "model.safetensors"),
    "pi3x": ("yyfz233/Pi3X", "model.safetensors"),
}


def models_folder() -> Path:
    """Where a user may put weight files by hand: QUANTLAB_MODELS, or the platform's data folder."""
    chosen = os.environ.get("QUANTLAB_MODELS")
    if chosen:
        return Path(chosen)
    from platformdirs import user_data_path

    return user_data_path("quantlab") / "models"


def local_file(name: str) -> Path | None:
    """The weight file of a released model where it is on this machine: put there by hand, or in the hub's cache."""
    for ending in (".safetensors", ".pt"):
        by_hand = models_folder() / f"{name}{ending}"
        if by_hand.is_file():
            return by_hand
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(*HUB_FILES[name])
    return Path(cached) if isinstance(cached, str) else None


def hub_file(name: str) -> Path:
    """The weight file of a released model: the local one, or downloaded now.

    Raises:
        CheckpointError: It is nowhere, and the hub cannot be reached.
    """
    there = local_file(name)
    if there is not None:
        return there
    repository, file = HUB_FILES[name]
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:
        # The hub's transport (requests before version 1, httpx since) brings errors of its own; they are long.
        raise CheckpointError(
            f"{name} is not on this machine and cannot be downloaded ({type(error).__name__})",
            place=f"https://huggingface.co/{repository}",
            remedy=f"Connect to the network, or save its {file} as {models_folder() / (name + '.safetensors')}.",
        ) from error
