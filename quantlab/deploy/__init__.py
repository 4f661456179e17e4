"""Deploy targets: a quantized network written for ONNX or OpenVINO. Our own format is `quantlab.packed`."""

from quantlab.deploy.fitting import STATIC, changes, fitted
from quantlab.deploy.target import TARGETS, Deployed, export, stands

__all__ = ["STATIC", "TARGETS", "Deployed", "changes", "export", "fitted", "stands"]
