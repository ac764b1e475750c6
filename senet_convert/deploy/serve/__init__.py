"""The inference server: Open Inference Protocol v2 over HTTP and gRPC, image classification, a page for people."""
