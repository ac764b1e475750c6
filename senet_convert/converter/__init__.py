"""From Caffe's network to a verified PyTorch net and ONNX file: graph, layer types, nets, weights, export, check."""
