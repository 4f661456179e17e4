"""The speed bench: how fast and how small quantized networks run on this machine, with their rivals beside them."""
