"""Deploy targets: a quantized network written for ONNX or OpenVINO. Our own format is `quantlab.packed`."""

from quantlab.deploy.fitting import changes, differs, fitted
from quantlab.deploy.target import TARGETS, Deployed, export, require_free, snippet, stands

__all__ = [
    "TARGETS",
    "Deployed",
    "changes",
    "differs",
    "export",
    "fitted",
    "require_free",
    "snippet",
    "stands",
]
