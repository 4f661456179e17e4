"""The lab in the browser: a thin Gradio skin over `quantlab.lab.Lab`. Importing it loads no toolkit."""

from __future__ import annotations

from quantlab.app.options import Options

__all__ = ["Options", "launch"]


def launch(**settings: object) -> None:
    """Serve the lab on 127.0.0.1 until interrupted.

    Args:
        settings: The fields of `Options`: model, scene, device, dtype, port, open_browser, root_path.
    """
    from quantlab.app.server import serve

    serve(Options(**settings))  # type: ignore[arg-type]
