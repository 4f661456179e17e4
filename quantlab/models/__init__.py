"""Networks, their checkpoints, and what goes in and comes out. Import from the modules: this file loads nothing."""
