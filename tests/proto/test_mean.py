from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.errors import ReadError
from senet_convert.proto import caffe_pb2
from senet_convert.proto.mean import read_mean

IMAGE = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)


def test_the_old_form_of_dimensions(tmp_path: Path) -> None:
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=4, width=5, data=IMAGE.tobytes())
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    assert np.array_equal(read_mean(tmp_path / "mean.binaryproto"), IMAGE)


def test_a_shape_and_doubles(tmp_path: Path) -> None:
    blob = caffe_pb2.BlobProto(double_data=IMAGE.astype("<f8").tobytes())
    blob.shape.dim.extend([3, 4, 5])
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    found = read_mean(tmp_path / "mean.binaryproto")
    assert found.dtype == np.float32
    assert np.array_equal(found, IMAGE)


def test_a_folder_is_no_mean_image(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="it is a folder"):
        read_mean(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no protobuf",
        caffe_pb2.BlobProto(num=1, channels=3, height=4, width=5, data=IMAGE.tobytes()[:-4]).SerializeToString(),
        caffe_pb2.BlobProto(num=1, channels=3, height=4, width=5, data=b"abc").SerializeToString(),
        caffe_pb2.BlobProto(num=2, channels=3, height=4, width=5, data=IMAGE.tobytes() * 2).SerializeToString(),
    ],
)
def test_what_is_no_mean_image(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "mean.binaryproto").write_bytes(data)
    with pytest.raises(ReadError, match=r"mean\.binaryproto: .*mean image"):
        read_mean(tmp_path / "mean.binaryproto")
