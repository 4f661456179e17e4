"""Deploy targets: a quantized network written for ONNX or OpenVINO. Our own format is `quantlab.packed`."""

from quantlab.deploy.target import TARGETS, Deployed, export

__all__ = ["TARGETS", "Deployed", "export"]
