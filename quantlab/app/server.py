"""The web server of the lab: loopback only, files of ours beside Gradio's, nothing from elsewhere. It draws nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
import time
import webbrowser
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from quantlab.app.options import Options
from quantlab.app.state import Store
from quantlab.app.workshop import Workshop
from quantlab.errors import DeviceError, MissingLibraryError

if TYPE_CHECKING:
    import fastapi

HOST = "127.0.0.1"
TRIES = 64
STATIC = Path(__file__).with_name("static")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' blob:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
)
"""The browser itself refuses every request that would leave this server."""


def serve(options: Options) -> None:
    """Run the app until interrupted.

    Raises:
        DeviceError: No port is free, or the root path is none.
    """
    begun = time.monotonic()
    root = checked_root(options.root_path)
    _keep_to_ourselves()
    listener, port = bind(options.port)
    if port != options.port:
        print(f"Port {options.port} is in use; taking {port}.", file=sys.stderr, flush=True)  # noqa: T201
    workshop = Workshop(options)
    workshop.warm()
    app = build_app(Store(), workshop)
    address = root if "://" in root else f"http://{HOST}:{port}"
    _run(app, listener, f"{address}/", begun, open_browser=options.open_browser)


def bind(first: int) -> tuple[socket.socket, int]:
    """Take the first free port from ``first`` on, and keep it, so that nobody else gets it meanwhile.

    Raises:
        DeviceError: None is free, or ``first`` is no port.
    """
    for port in range(max(1, first), min(first + TRIES, 65536)):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            listener.close()
            continue
        return listener, port
    raise DeviceError(
        f"no port from {first} to {first + TRIES - 1} is free",
        place=HOST,
        remedy="Choose another with --port.",
    )


def checked_root(root: str) -> str:
    """The root path without a slash at its end.

    Raises:
        DeviceError: It is neither a path nor an address of a page.
    """
    try:
        parts = urlsplit(root)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        parts, is_address = urlsplit(""), False
    is_path = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    if root and (parts.query or parts.fragment or not (is_address or is_path)):
        raise DeviceError(
            f"{root[:80]!r} is no place where a proxy shows a page",
            place="root path",
            remedy="Give a path, as /user/me/proxy/7860, or the whole address, as https://hub/user/me/proxy/7860.",
        )
    return root.rstrip("/")


def build_app(store: Store, workshop: Workshop) -> fastapi.FastAPI:
    """The whole web application: Gradio's page, and our scripts and clouds beside it."""
    _keep_to_ourselves()
    import fastapi
    import gradio as gr
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.staticfiles import StaticFiles

    from quantlab.app.actions import Actions
    from quantlab.app.look import HEAD, css, theme
    from quantlab.app.page import MAX_UPLOAD, build_page

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guard)
    root = checked_root(workshop.options.root_path)
    proxy = urlsplit(root).hostname
    hosts = [HOST, "localhost", *([proxy] if proxy else [])]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)  # no other site's name may point here
    _add_clouds(app, store)
    for path, folder in (
        ("static", STATIC),
        ("plotly", _plotly()),
        ("viewer", STATIC.parents[1] / "viewer" / "static"),
        ("figures", STATIC.parents[1] / "figures" / "static"),
    ):
        app.mount(f"/quantlab/{path}", StaticFiles(directory=folder))
    return gr.mount_gradio_app(
        app,
        build_page(Actions(store, workshop)),
        path="/",
        root_path=root or None,
        server_name=HOST,
        theme=theme(),
        css=css(),
        head=HEAD,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=MAX_UPLOAD,
    )


def _add_clouds(app: fastapi.FastAPI, store: Store) -> None:
    from fastapi import Response

    def cloud(handle: str, name: str) -> Response:
        session = store.named(handle)
        data = session.cloud(name) if session else None
        if data is None:
            return Response(status_code=404)
        headers = {"Cache-Control": "no-store"}
        return Response(data, media_type="application/octet-stream", headers=headers)

    def file(handle: str, name: str) -> Response:
        session = store.named(handle)
        found = session.file(name) if session else None
        if found is None:
            return Response(status_code=404)
        return Response(found.data, media_type=found.media, headers=found.headers)

    app.get("/quantlab/clouds/{handle}/{name}", response_model=None)(cloud)
    app.get("/quantlab/files/{handle}/{name}", response_model=None)(file)


class _Guard:
    """Sends the content policy with every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = {
                    "content-security-policy": POLICY,
                    "x-content-type-options": "nosniff",
                    "referrer-policy": "no-referrer",
                }
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in extra.items()),
                ]
            await send(message)

        await self._app(scope, receive, guarded)


def _plotly() -> Path:
    """The folder of plotly's own script, found without importing plotly."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise MissingLibraryError("plotly is not installed", remedy="Install QuantLab again with pip.")
    return Path(spec.origin).parent / "package_data"


def _run(
    app: fastapi.FastAPI, listener: socket.socket, address: str, begun: float, *, open_browser: bool
) -> None:
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, ws="none")
    server = uvicorn.Server(config)
    # once it leaves, an open page that is cut off is no fault
    logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)

    def announce() -> None:
        while not server.started and not server.should_exit:
            time.sleep(0.05)
        seconds = time.monotonic() - begun
        print(f"QuantLab is at {address} (ready after {seconds:.1f} s; Ctrl+C ends it)", flush=True)  # noqa: T201
        if open_browser:
            webbrowser.open(address)

    threading.Thread(target=announce, daemon=True).start()
    with suppress(KeyboardInterrupt, asyncio.CancelledError):  # Ctrl+C is how one leaves, not a fault
        server.run(sockets=[listener])


def _keep_to_ourselves() -> None:
    """Switch off what would call home; it must be said before Gradio is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ["GRADIO_SHARE"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
