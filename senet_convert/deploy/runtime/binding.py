"""IO binding: inputs and outputs of a fixed shape live in buffers on the device, made once and used for every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]


class Binding:
    """Buffers of one session for one set of input shapes; one run at a time."""

    def __init__(
        self, session: Any, feeds: Mapping[str, Array], outputs: Sequence[str], device: str, number: int = 0
    ) -> None:
        """`device` is onnxruntime's word for where the buffers are, 'cpu' or 'cuda', `number` which of them."""
        self._session, self._outputs = session, list(outputs)
        self._binding = session.io_binding()
        self._values = {  # of copies: on the CPU an OrtValue shares the array's memory, an update overwrites it
            name: ort.OrtValue.ortvalue_from_numpy(np.array(array, order="C"), device, number)
            for name, array in feeds.items()
        }
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            self._binding.bind_output(name, device, number)

    def run(self, feeds: Mapping[str, Array], options: Any = None) -> dict[str, Array]:
        """Copy the feeds in, run, copy the outputs out. Arrays have the shapes and types of the first feeds.

        `options` are onnxruntime's RunOptions.
        """
        for name, value in self._values.items():
            value.update_inplace(np.ascontiguousarray(feeds[name]))
        self._session.run_with_iobinding(self._binding, options)
        found = [np.array(array) for array in self._binding.copy_outputs_to_cpu()]
        return dict(zip(self._outputs, found, strict=True))
