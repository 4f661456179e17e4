"""Sizes of a VGGT network as plain data, and the check of a configuration from a file. No modules are built here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from quantlab.errors import CheckpointError

DEPTH_LIMIT = 256
INFORMATIONAL = ("seed", "fov_bias")


@dataclass(frozen=True, slots=True)
class AggregatorConfig:
    """Sizes of the alternating-attention trunk; the defaults are those of the released network."""

    img_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    num_register_tokens: int = 4


@dataclass(frozen=True, slots=True)
class VitConfig:
    """Sizes of the image encoder. A depth of 0 leaves a plain patch convolution with position and norm."""

    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16


@dataclass(frozen=True, slots=True)
class CameraHeadConfig:
    """Sizes of the camera head."""

    trunk_depth: int = 4
    num_heads: int = 16


@dataclass(frozen=True, slots=True)
class DptConfig:
    """Sizes shared by the depth head and the point head, and the aggregator layers they read."""

    features: int = 256
    out_channels: tuple[int, ...] = (256, 512, 1024, 1024)
    intermediate_layer_idx: tuple[int, ...] = (4, 11, 17, 23)


@dataclass(frozen=True, slots=True)
class TrackConfig:
    """Sizes of the tracker and its feature extractor; it reads the layers of the DPT heads."""

    features: int = 128
    out_channels: tuple[int, ...] = (256, 512, 1024, 1024)
    corr_levels: int = 7
    corr_radius: int = 4
    hidden_size: int = 384


@dataclass(frozen=True, slots=True)
class VGGTConfig:
    """Everything that fixes the names and shapes of a VGGT; a head that is None is absent."""

    aggregator: AggregatorConfig = field(default_factory=AggregatorConfig)
    vit: VitConfig = field(default_factory=VitConfig)
    camera_head: CameraHeadConfig | None = field(default_factory=CameraHeadConfig)
    dpt: DptConfig | None = field(default_factory=DptConfig)
    track: TrackConfig | None = field(default_factory=TrackConfig)

    @property
    def img_size(self) -> int:
        """Side of the pictures the position embedding was made for."""
        return self.aggregator.img_size

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.aggregator.patch_size

    @property
    def layers(self) -> tuple[int, ...]:
        """The aggregator layers that depth, point and track heads read."""
        return (self.dpt or DptConfig()).intermediate_layer_idx

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> VGGTConfig:
        """Check a configuration in the form stored in checkpoint metadata.

        ``patch_size`` stands in "aggregator" (or at the top level) and defaults to 14; a size that is left out is
        the released one; a head section that is left out means that the head is absent.

        Raises:
            CheckpointError: An unknown key, a value of the wrong type, or sizes that do not fit together.
        """
        sections = {f.name: f for f in fields(cls)}
        refuse_unknown(config, (*sections, *INFORMATIONAL, "patch_size"), "configuration")
        trunk = dict(mapping_of(config.get("aggregator", {}), "aggregator"))
        if "patch_size" in config:
            trunk.setdefault("patch_size", config["patch_size"])
        optional = {"camera_head": CameraHeadConfig, "dpt": DptConfig, "track": TrackConfig}
        heads = {
            name: section_of(kind, config[name], name) for name, kind in optional.items() if config.get(name)
        }
        built = cls(
            aggregator=section_of(AggregatorConfig, trunk, "aggregator"),
            vit=section_of(VitConfig, config.get("vit", {}), "vit"),
            camera_head=heads.get("camera_head"),
            dpt=heads.get("dpt"),
            track=heads.get("track"),
        )
        _check_sizes(built)
        return built

    def to_dict(self) -> dict[str, Any]:
        """The form ``from_dict`` reads, for JSON; absent heads are left out."""
        return {name: section for name, section in asdict(self).items() if section is not None}


def mapping_of(value: object, place: str) -> Mapping[str, Any]:
    """A configuration section, or CheckpointError if it is no table."""
    if not isinstance(value, Mapping):
        raise CheckpointError("the configuration section is not a table of sizes", place=place)
    return value


def refuse_unknown(config: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    """Raise CheckpointError naming the keys of ``config`` that are not ``known``."""
    unknown = sorted(set(mapping_of(config, place)) - set(known))
    if unknown:
        raise CheckpointError(
            f"unknown configuration key {', '.join(map(repr, unknown))}",
            place=place,
            remedy=f"Use only: {', '.join(known)}.",
        )


def section_of(kind: type[Any], config: object, place: str) -> Any:
    """A dataclass of sizes from a table; sizes that are left out are its defaults."""
    values = mapping_of(config, place)
    defaults = {f.name: f for f in fields(kind)}
    refuse_unknown(values, tuple(defaults), place)
    reference = kind()
    return kind(
        **{key: _sizes(value, getattr(reference, key), f"{place}.{key}") for key, value in values.items()}
    )


def _sizes(value: object, default: object, place: str) -> int | tuple[int, ...]:
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and len(value) == len(default):
            return tuple(_size(item, place) for item in value)
        raise CheckpointError(f"the size is not a list of {len(default)} whole numbers", place=place)
    return _size(value, place)


def _size(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1 << 20:
        raise CheckpointError(f"the size {value!r} is not a whole number of at least 0", place=place)
    return value


def _check_sizes(config: VGGTConfig) -> None:
    trunk, vit = config.aggregator, config.vit
    camera = config.camera_head or CameraHeadConfig(trunk_depth=1, num_heads=1)
    problems = {
        "patch_size must divide img_size": trunk.patch_size < 1
        or trunk.img_size % max(trunk.patch_size, 1) != 0,
        "img_size must be at least patch_size": trunk.img_size < trunk.patch_size,
        "the encoder and the aggregator must have the same embed_dim": trunk.embed_dim != vit.embed_dim,
        "num_heads must divide embed_dim into heads of a multiple of 4": not heads_fit(
            trunk.embed_dim, trunk.num_heads
        ),
        "the encoder's num_heads must divide embed_dim": vit.num_heads < 1
        or vit.embed_dim % max(vit.num_heads, 1) != 0,
        "the aggregator needs between 1 and 256 layers": not 1 <= trunk.depth <= DEPTH_LIMIT,
        "the camera head's num_heads must divide twice embed_dim": camera.num_heads < 1
        or 2 * trunk.embed_dim % max(camera.num_heads, 1) != 0,
        "the encoder or the camera head has more than 256 layers": max(vit.depth, camera.trunk_depth)
        > DEPTH_LIMIT,
        "intermediate_layer_idx must name layers of the aggregator": bool(config.dpt or config.track)
        and max(config.layers) >= trunk.depth,
        "the DPT features must be even": config.dpt is not None and config.dpt.features % 8 != 0,
    }
    for problem, holds in problems.items():
        if holds:
            raise CheckpointError(problem, place="configuration", remedy="Correct the sizes.")


def heads_fit(dim: int, heads: int) -> bool:
    """Whether ``dim`` channels split into ``heads`` heads that a 2-D rotary position fits."""
    return heads >= 1 and dim >= 1 and dim % heads == 0 and (dim // heads) % 4 == 0
