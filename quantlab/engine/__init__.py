"""Recipe to plan to quantized network, and what it costs: diagnosis and evaluation. No pictures of it."""
