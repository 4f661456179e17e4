"""Whether a profile that was measured elsewhere is one of this network. It reads no file."""

from __future__ import annotations

from quantlab.calibration.profile import ALL, Profile
from quantlab.errors import StorageError
from quantlab.models.structure import Structure

NAMED = 3


def check_profile(profile: Profile, structure: Structure, fingerprint: str, *, place: str) -> None:
    """Make sure that a profile belongs to a network.

    Args:
        profile: From a file.
        structure: Of the network.
        fingerprint: Of its weights; "": any will do.
        place: The file, for errors.

    Raises:
        StorageError: It names layers that the network has not, or of other widths; or it was taken of other weights.
    """
    foreign = [name for name in profile.layers if name not in structure.layers]
    if foreign or not profile.layers:
        named = ", ".join(foreign[:NAMED]) or "none"
        raise StorageError(
            f"the profile is of another network: {len(foreign)} of its {len(profile.layers)} layers are not in "
            f"this one ({named})",
            place=place,
            remedy="Open it with the model it was taken of.",
        )
    for name, layer in profile.layers.items():
        info, found = structure.layers[name], len(layer.channel_max)
        # a convolution's width counts its kernel too, of which the profile knows nothing
        fits = found == info.in_features or (
            info.operator != "linear" and found and not info.in_features % found
        )
        if not fits or ALL not in layer.tokens:
            raise StorageError(
                f"the profile is of another network: the width of {name} is not {found}",
                place=place,
                remedy="Open it with the model it was taken of.",
            )
    if fingerprint and profile.fingerprint and fingerprint != profile.fingerprint:
        raise StorageError(
            "the profile was taken of other weights of this network",
            place=place,
            remedy="Load the model it was taken of, or say other_weights=True.",
        )
