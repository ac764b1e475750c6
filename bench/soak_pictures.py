"""Pictures whose answers are known, and told apart from each other's: how they are asked about in each protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from senet_convert.deploy.images.images import pictures_in, read_image
from senet_convert.deploy.model import Model

from . import heavy, hostile, wire

MODEL = "digits"
HEAVY = 300_000  # bytes of the bodies that are made to cost much
MOST = 64  # pictures
CLOSE = 1e-4  # answers of the same picture, in batches of different sizes
APART = 20 * CLOSE  # answers of different ones
_TYPE = "UINT8"
_HURRY = 1000  # microseconds

Code = grpc.StatusCode
TOO_MUCH = (Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT)


@dataclass(frozen=True)
class Picture:
    """A picture: `array` as the model's input takes it, `expected` the probabilities, `file` as it lies on disk."""

    array: NDArray[np.uint8]
    expected: NDArray[np.float32]
    input: str
    output: str
    binary: bytes
    json: bytes
    classify: bytes
    hurried: bytes
    grpc: bytes

    def differs(self, found: NDArray[np.float32] | Mapping[int, float]) -> str:
        """How an answer, all values or the best ones by class, differs from what is expected; empty where it agrees."""
        if isinstance(found, Mapping):
            wanted = {int(k): float(self.expected[k]) for k in np.argsort(-self.expected)[: len(found)]}
            off = max(abs(self.expected[index] - value) for index, value in found.items())
            return "" if off < CLOSE and abs(sum(wanted.values()) - sum(found.values())) < CLOSE else f"{found}"
        flat = found.ravel()
        same = flat.shape == self.expected.shape and np.abs(flat - self.expected).max() < CLOSE
        return "" if same else f"{flat[:5]}, expected {self.expected[:5]}"

    def from_grpc(self, message: bytes) -> NDArray[np.float32]:
        """The values in an answer of gRPC."""
        answer = service_pb2.ModelInferResponse.FromString(message)
        return np.frombuffer(answer.raw_output_contents[0], np.float32)

    def hostile(self) -> list[hostile.Hostile]:
        """What nobody should ask."""
        costly = [one for one in heavy.bodies(MODEL, HEAVY) if 200 not in one.answers and one.name != heavy.CUT_OFF]
        return [*hostile.requests(MODEL, self.input, self.array.shape, self.output), *costly]

    def hostile_grpc(self) -> Sequence[tuple[str, bytes, float | None, tuple[Any, ...]]]:
        """Name, message, timeout in seconds and the codes that answer it."""
        raw = self.array.tobytes()
        return (
            ("unknown model", self._message("nothing", raw), None, (Code.NOT_FOUND,)),
            ("truncated", self._message(MODEL, raw[:-5]), None, (Code.INVALID_ARGUMENT,)),
            ("no tensor", self._message(MODEL), None, (Code.INVALID_ARGUMENT,)),
            ("no message", b"\xff" * 100, None, (Code.INTERNAL, Code.INVALID_ARGUMENT)),
            ("too long", self._message(MODEL, bytes(2**24)), None, (Code.RESOURCE_EXHAUSTED,)),
            ("many empty outputs", message(MODEL, self.input, self.array) + b"\x32\0" * 500_000, None, TOO_MUCH),
            ("in a hurry", self.grpc, 0.001, (Code.OK, Code.DEADLINE_EXCEEDED)),
        )

    def _message(self, model: str, *raw: bytes) -> bytes:
        return message(model, self.input, self.array, *raw)


def known(bundle: Path, images: Path) -> list[Picture]:
    """Pictures of a folder with their answers by the model alone; only such as differ from all others."""
    model = Model.open(bundle, "cpu", spin=False)
    (name,) = model.session.inputs
    files = pictures_in(images.iterdir())
    batch = model.preprocess.batch([read_image(file) for file in files])
    found: list[Picture] = []
    for file, array, expected in zip(files, batch, model.probabilities(batch), strict=True):
        if len(found) < MOST and all(np.abs(expected - other.expected).max() > APART for other in found):
            found.append(_picture(file, array, expected, name, model.output))
    return found


def message(model: str, name: str, array: NDArray[Any], *raw: bytes) -> bytes:
    """A request of gRPC about one item, with these raw contents."""
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=raw)
    request.inputs.add(name=name, datatype=_TYPE, shape=(1, *array.shape))
    encoded: bytes = request.SerializeToString()
    return encoded


def _picture(file: Path, array: NDArray[Any], expected: NDArray[np.float32], name: str, output: str) -> Picture:
    one = array[None]
    return Picture(
        array=array,
        expected=expected,
        input=name,
        output=output,
        binary=wire.binary(MODEL, name, _TYPE, one, output),
        json=wire.plain(MODEL, name, _TYPE, one),
        classify=wire.encode("/v1/classify", file.read_bytes(), Content_Type="image/png"),
        hurried=wire.binary(MODEL, name, _TYPE, one, output, _HURRY),
        grpc=message(MODEL, name, array, array.tobytes()),
    )
