"""How a quantized layer executes. Which settings it gets is decided elsewhere."""
