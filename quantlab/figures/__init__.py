"""Data in, plotly figure out: plain dictionaries as plotly.js and ``go.Figure`` take them. No torch, no app.

Every function takes ``theme``: ``LIGHT``, ``DARK``, or ``PAGE`` where the page itself fills in the colours.
"""

from quantlab.figures.channels import channel_maxima, landscape
from quantlab.figures.errors import error_histogram
from quantlab.figures.histogram import layer_histogram, token_histogram
from quantlab.figures.outlier_map import outlier_map
from quantlab.figures.search import search_curve
from quantlab.figures.severity import QUANTITIES, severities, worst
from quantlab.figures.theme import CONFIG, DARK, LIGHT, PAGE, Theme

__all__ = [
    "CONFIG",
    "DARK",
    "LIGHT",
    "PAGE",
    "QUANTITIES",
    "Theme",
    "channel_maxima",
    "error_histogram",
    "landscape",
    "layer_histogram",
    "outlier_map",
    "search_curve",
    "severities",
    "token_histogram",
    "worst",
]
