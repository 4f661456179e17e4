"""VGGT's track head: follows points of the first frame through the others. Its transformer is in updateformer.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models.config import TrackConfig
from quantlab.models.dpt import DPTHead
from quantlab.models.layers import MLP, LayerNorm
from quantlab.models.updateformer import UpdateFormer

ITERATIONS = 4
STRIDE = 2
FLOW_SCALE = 518.0


class TrackHead(nn.Module):
    """Feature maps at half resolution, then iterated point tracking on them."""

    def __init__(self, dim: int, patch_size: int, layers: Sequence[int], config: TrackConfig) -> None:
        super().__init__()
        self.feature_extractor = DPTHead(dim, patch_size, config.features, config.out_channels, layers, None)
        self.tracker = Tracker(config)

    def forward(
        self,
        tokens: Mapping[int, Tensor],
        images: Tensor,
        specials: int,
        query_points: Tensor,
        iterations: int = ITERATIONS,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Track ``query_points`` [B, N, 2], pixels (x, y) of frame 0.

        Returns:
            Tracks [B, S, N, 2] in pixels, visibility and confidence [B, S, N] as probabilities.
        """
        features = self.feature_extractor.maps(tokens, images, specials)
        out: tuple[Tensor, Tensor, Tensor] = self.tracker(features, query_points, iterations)
        return out


class Tracker(nn.Module):
    """Refines tracks and their features from local correlations.

    Source:
        Wang et al. 2025 (arXiv:2503.11651), section 3.3; Karaev et al. 2023 (arXiv:2307.07635).
    """

    def __init__(self, config: TrackConfig) -> None:
        super().__init__()
        latent = config.features
        self.latent = latent
        self.levels = config.corr_levels
        self.radius = config.corr_radius
        width = (latent + 4) + latent + latent
        window = (2 * self.radius + 1) ** 2
        self.query_ref_token = nn.Parameter(torch.randn(1, 2, width))
        self.corr_mlp = MLP(self.levels * window, config.hidden_size, latent)
        self.updateformer = UpdateFormer(width, config.hidden_size, latent + 2)
        self.fmap_norm = LayerNorm(latent)
        self.ffeat_norm = nn.GroupNorm(1, latent)
        self.ffeat_updater = nn.Sequential(nn.Linear(latent, latent), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(latent, 1))
        self.conf_predictor = nn.Sequential(nn.Linear(latent, 1))

    def forward(
        self, features: Tensor, query_points: Tensor, iterations: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Track on ``features`` [B, S, latent, rows, columns], which lie at 1/STRIDE of the image's resolution."""
        frames, (rows, columns) = features.shape[1], features.shape[-2:]
        features = self.fmap_norm(features.movedim(2, -1)).movedim(-1, 2)
        query = query_points / STRIDE
        start = query[:, None].expand(-1, frames, -1, -1)
        coordinates = start
        state = sample(features[:, 0], query)[:, None].expand(-1, frames, -1, -1)
        pyramid = correlation_pyramid(features, self.levels)
        place = sample_sincos(self.query_ref_token.shape[-1], rows, columns, query)[:, :, None]
        for _ in range(iterations):
            # No gradient through the positions, only through the updates, as in the published training.
            coordinates = coordinates.detach()
            delta = self._update(pyramid, coordinates, state, place)
            moved = coordinates + delta[..., :2]
            coordinates = torch.cat((start[:, :1], moved[:, 1:]), dim=1)
            change = self.ffeat_norm(delta[..., 2:].reshape(-1, self.latent)).view(state.shape)
            state = state + self.ffeat_updater(change)
        visible = self.vis_predictor(state).squeeze(-1).sigmoid()
        confident = self.conf_predictor(state).squeeze(-1).sigmoid()
        return coordinates * STRIDE, visible, confident

    def _update(self, pyramid: Sequence[Tensor], coordinates: Tensor, state: Tensor, place: Tensor) -> Tensor:
        """Updates [B, S, N, 2 + latent] of coordinates and features."""
        correlation = self.corr_mlp(correlate(pyramid, state, coordinates, self.radius))
        flow = coordinates - coordinates[:, :1]
        scaled = flow / FLOW_SCALE
        tokens = torch.cat((embed_flow(flow, self.latent // 2), scaled, scaled, correlation, state), dim=-1)
        first, others = self.query_ref_token[:, :1], self.query_ref_token[:, 1:]
        reference = torch.cat((first, others.expand(-1, tokens.shape[1] - 1, -1)), dim=1)
        per_track = tokens.transpose(1, 2) + place + reference[:, None]
        update: Tensor = self.updateformer(per_track)
        return update.transpose(1, 2)


def correlation_pyramid(features: Tensor, levels: int) -> list[Tensor]:
    """``features`` [B, S, C, rows, columns] and its successive halvings."""
    pyramid = [features]
    for _ in range(levels - 1):
        flat = pyramid[-1].flatten(0, 1)
        pyramid.append(F.avg_pool2d(flat, 2, stride=2).unflatten(0, features.shape[:2]))
    return pyramid


def correlate(pyramid: Sequence[Tensor], state: Tensor, coordinates: Tensor, radius: int) -> Tensor:
    """Correlation of track features [B, S, N, C] with a window around ``coordinates`` [B, S, N, 2], per level.

    Returns:
        [B, S, N, levels * (2 * radius + 1) ** 2].
    """
    batch, frames, tracks, channels = state.shape
    steps = torch.arange(-radius, radius + 1, device=state.device, dtype=coordinates.dtype)
    # The outer index of the window moves x and the inner one y: the published axes are transposed, and trained so.
    window = torch.cartesian_prod(steps, steps).view(-1, 2)
    found = []
    for level, features in enumerate(pyramid):
        volume = state @ features.flatten(3) / channels**0.5
        maps = volume.reshape(batch * frames * tracks, 1, *features.shape[-2:])
        places = (coordinates / 2**level)[..., None, :] + window
        values = _grid_sample(maps, places.reshape(-1, 1, len(window), 2), padding="zeros")
        found.append(values.view(batch, frames, tracks, -1))
    return torch.cat(found, dim=-1)


def sample(features: Tensor, coordinates: Tensor) -> Tensor:
    """Bilinear samples [B, N, C] of ``features`` [B, C, rows, columns] at (x, y) [B, N, 2], clamped at the border."""
    return _grid_sample(features, coordinates[:, None], padding="border")[:, :, 0].transpose(1, 2)


def _grid_sample(maps: Tensor, coordinates: Tensor, padding: str) -> Tensor:
    rows, columns = maps.shape[-2:]
    scale = coordinates.new_tensor([2 / max(columns - 1, 1), 2 / max(rows - 1, 1)])
    return F.grid_sample(
        maps, coordinates * scale - 1, mode="bilinear", padding_mode=padding, align_corners=True
    )


def embed_flow(flow: Tensor, channels: int) -> Tensor:
    """Sine (even) and cosine (odd channels) of displacements (..., 2): x part then y part, (..., 2 * channels).

    The frequencies 0, 2, 4 ... times 1000 / channels are the published ones; the result is ill-conditioned.
    """
    frequencies = torch.arange(0, channels, 2, device=flow.device, dtype=flow.dtype) * (1000.0 / channels)
    angles = flow[..., None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-3)


def sample_sincos(channels: int, rows: int, columns: int, coordinates: Tensor) -> Tensor:
    """Position embedding [B, N, channels] of a rows x columns grid, bilinear at (x, y) pixels [B, N, 2].

    The first half encodes x and the second y, so sampling the 2-D grid is a linear interpolation per axis.
    """
    parts = [
        _sample_axis(channels // 2, size, coordinates[..., axis]) for axis, size in enumerate((columns, rows))
    ]
    return torch.cat(parts, dim=-1)


def _sample_axis(channels: int, size: int, position: Tensor) -> Tensor:
    steps = torch.arange(channels // 2, dtype=torch.float64, device=position.device) / (channels / 2)
    grid = torch.arange(size, dtype=torch.float64, device=position.device)
    angles = grid[:, None] * (1.0 / 10000.0**steps)
    table = torch.cat((angles.sin(), angles.cos()), dim=-1).float()
    inside = position.clamp(0, size - 1)
    low = inside.floor().long().clamp(max=max(size - 2, 0))
    part = (inside - low)[..., None]
    return table[low] * (1 - part) + table[(low + 1).clamp(max=size - 1)] * part
