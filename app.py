"""Opens the lab in the browser: `python app.py`. It parses arguments and does nothing else."""

from __future__ import annotations

import argparse

from quantlab.app import Options, launch


def main() -> None:
    """Read the command line and serve until interrupted."""
    default = Options()
    parser = argparse.ArgumentParser(
        description="QuantLab: quantize a 3D reconstruction transformer and see what breaks."
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    parser.add_argument("--port", type=int, default=default.port, help="first port to try (%(default)s)")
    parser.add_argument(
        "--root-path", default=default.root_path, help="where a proxy shows the page, if one does"
    )
    parser.add_argument("--model", default=default.model, help="mini, mini-outliers, vggt-1b or a checkpoint")
    parser.add_argument("--scene", default=default.scene, help="demo, a folder of photos, or a video")
    parser.add_argument("--device", default=default.device, help="cpu or cuda (%(default)s)")
    parser.add_argument("--dtype", default=default.dtype, choices=("float32", "bfloat16"))
    chosen = parser.parse_args()
    launch(
        model=chosen.model,
        scene=chosen.scene,
        device=chosen.device,
        dtype=chosen.dtype,
        port=chosen.port,
        open_browser=not chosen.no_browser,
        root_path=chosen.root_path,
    )


if __name__ == "__main__":
    main()
