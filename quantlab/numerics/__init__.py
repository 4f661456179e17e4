"""Pure tensor arithmetic: formats, rounding, ranges, rotations, statistics. Knows no model and no recipe."""
