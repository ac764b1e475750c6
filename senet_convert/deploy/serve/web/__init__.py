"""HTTP: what stands around every request, and the Open Inference Protocol with its documentation."""
