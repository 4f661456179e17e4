"""Packed checkpoints: a quantized network on disk, and run from there. It calibrates nothing and decides nothing."""
