"""A model behind KServe's SDK: `python on_kserve.py MODEL.onnx PORT THREADS --http_port=PORT --enable_grpc=false`.

In an environment that has kserve, which reads its own options when it is imported. Requests are those of the v2
protocol with binary tensors. The SDK has no batching of its own.
"""

from __future__ import annotations

import sys
from typing import Any

import kserve
import onnxruntime

MODEL, THREADS = sys.argv[1], int(sys.argv[3])


class Images(kserve.Model):  # type: ignore[misc]  # not installed where types are checked
    """The last output for the one input."""

    def load(self) -> bool:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(MODEL, options)
        self.ready = True
        return self.ready

    def predict(self, payload: kserve.InferRequest, *_: Any, **__: Any) -> kserve.InferResponse:
        """Run one request."""
        name = self.session.get_inputs()[0].name
        found = self.session.run(None, {name: payload.inputs[0].as_numpy()})[-1]
        output = kserve.InferOutput("output", list(found.shape), "FP32")
        output.set_data_from_numpy(found, binary_data=True)
        return kserve.InferResponse(payload.id or "1", self.name, [output])


if __name__ == "__main__":
    model = Images("bench")
    model.load()
    kserve.ModelServer(workers=1).start([model])
