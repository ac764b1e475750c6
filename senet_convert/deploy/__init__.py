"""What runs in production: onnxruntime, numpy, onnx and OpenCV; never torch, never the converter."""
