"""What runs in production: onnxruntime, numpy and onnx; never torch, never the converter."""
