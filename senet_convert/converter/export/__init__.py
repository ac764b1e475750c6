"""The graph as an ONNX model."""
