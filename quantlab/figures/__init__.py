"""Data in, plotly figure out: plain dictionaries as plotly.js and ``go.Figure`` take them. No torch, no app.

Every function takes ``theme``: ``LIGHT``, ``DARK``, or ``PAGE`` where the page itself fills in the colours.
"""

from quantlab.figures.channels import channel_maxima
from quantlab.figures.clip import clip_slider
from quantlab.figures.errors import error_histogram
from quantlab.figures.histogram import layer_histogram, token_histogram
from quantlab.figures.landscape import landscape
from quantlab.figures.outlier_map import outlier_map
from quantlab.figures.pool_map import pool_map
from quantlab.figures.search import search_curve
from quantlab.figures.severity import QUANTITIES, severities, worst
from quantlab.figures.surface import surface
from quantlab.figures.theme import CONFIG, DARK, LIGHT, PAGE, Theme
from quantlab.figures.waterfall import waterfall

__all__ = [
    "CONFIG",
    "DARK",
    "LIGHT",
    "PAGE",
    "QUANTITIES",
    "Theme",
    "channel_maxima",
    "clip_slider",
    "error_histogram",
    "landscape",
    "layer_histogram",
    "outlier_map",
    "pool_map",
    "search_curve",
    "severities",
    "surface",
    "token_histogram",
    "waterfall",
    "worst",
]
