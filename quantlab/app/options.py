"""What a person can choose when the app starts. Data only."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_PORT = 7860


@dataclass(frozen=True, slots=True)
class Options:
    """How the app starts.

    Attributes:
        model: A name or a path, as `quantlab.load_model` takes it.
        scene: A name, a folder or a film, as `quantlab.load_scene` takes it.
        device: "cpu", "cuda" ...
        dtype: "float32" or "bfloat16".
        port: The first port tried; the next free one is taken when it is in use.
        open_browser: Whether to open the page in the default browser.
        root_path: Where a proxy shows the page, as "/user/me/proxy/7860", or the whole address of that; "" where none
            does. Of a whole address the host is let in, for proxies that pass on what the browser asked for.
    """

    model: str = "mini"
    scene: str = "demo"
    device: str = "cpu"
    dtype: str = "float32"
    port: int = FIRST_PORT
    open_browser: bool = True
    root_path: str = ""
