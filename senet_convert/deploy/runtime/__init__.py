"""onnxruntime: sessions, execution providers, cores."""
