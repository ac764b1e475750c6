"""A model behind LitServe: `python on_litserve.py MODEL.onnx PORT THREADS`, in an environment that has litserve.

Requests are JSON, the picture's bytes in base64: a body passes from process to process, and only plain values can.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime

MODEL, PORT, THREADS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Images(litserve.LitAPI):  # type: ignore[misc]  # not installed where types are checked
    """One uint8 picture in, the last output as a list."""

    def setup(self, _: str) -> None:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(MODEL, options)
        self.input = self.session.get_inputs()[0]

    def decode_request(self, request: dict[str, str]) -> Any:
        """The picture."""
        return np.frombuffer(base64.b64decode(request["image"]), np.uint8).reshape(self.input.shape[1:])

    def batch(self, inputs: list[Any]) -> Any:
        """Pictures that came together."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """Run them, or one that came alone."""
        batch = x if x.ndim == len(self.input.shape) else x[None]
        return self.session.run(None, {self.input.name: batch})[-1]

    def unbatch(self, output: Any) -> list[Any]:
        """A row for each."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """The row."""
        return {"output": output.tolist()}


if __name__ == "__main__":
    api = Images(max_batch_size=16, batch_timeout=0.002)
    litserve.LitServer(api, accelerator="cpu").run(host="127.0.0.1", port=PORT, generate_client_file=False)
