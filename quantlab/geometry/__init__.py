"""Cameras, alignment, clouds and scores in numpy. No torch, and no open3d until ICP needs it."""

from quantlab.geometry.alignment import Sim3, umeyama
from quantlab.geometry.cleaning import Cleaning
from quantlab.geometry.reconstruction import reconstruction_scores
from quantlab.geometry.scores import (
    CloudScores,
    DepthScores,
    auc,
    camera_errors,
    cloud_scores,
    completion_ratio,
    depth_scores,
    paired_errors,
    point_error,
)

__all__ = [
    "Cleaning",
    "CloudScores",
    "DepthScores",
    "Sim3",
    "auc",
    "camera_errors",
    "cloud_scores",
    "completion_ratio",
    "depth_scores",
    "paired_errors",
    "point_error",
    "reconstruction_scores",
    "umeyama",
]
