"""The 3D comparison in the browser: what it is sent and where it lies; nothing here imports a toolkit or torch."""
