"""Quantization techniques, one a file, each entered in a registry. None knows a model or a recipe."""
