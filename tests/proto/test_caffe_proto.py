from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from senet_convert.proto import caffe_pb2
from tests.paths import ROOT

PROTO = "senet_convert/proto/caffe.proto"


@pytest.mark.skipif(importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_the_generated_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    outputs = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, PROTO], cwd=ROOT, check=True)
    for name in ("caffe_pb2.py", "caffe_pb2.pyi"):
        made = (tmp_path / PROTO).with_name(name).read_text(encoding="utf-8")
        kept = (ROOT / PROTO).with_name(name).read_text(encoding="utf-8")
        assert made == kept, f"{name} is not current: run `make proto`"


def test_the_package_name_is_our_own() -> None:
    assert caffe_pb2.DESCRIPTOR.package == "senet_convert.caffe"
    assert caffe_pb2.NetParameter.DESCRIPTOR.full_name == "senet_convert.caffe.NetParameter"


def test_another_caffe_proto_lives_in_the_same_process() -> None:
    other = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    message = other.message_type.add(name="NetParameter")
    optional, string = (
        descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    )
    message.field.add(name="name", number=1, label=optional, type=string)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(other.SerializeToString())
    theirs = message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
    data = theirs(name="x").SerializeToString()
    assert caffe_pb2.NetParameter.FromString(data).name == "x"


def numbers(message: str) -> dict[str, int]:
    return {field.name: field.number for field in caffe_pb2.DESCRIPTOR.message_types_by_name[message].fields}


def test_field_numbers_that_files_depend_on() -> None:
    assert numbers("NetParameter") | {"layer": 100, "layers": 2, "input_shape": 8} == numbers("NetParameter")
    assert numbers("LayerParameter") | {"name": 1, "type": 2, "blobs": 7} == numbers("LayerParameter")
    assert numbers("V1LayerParameter") | {"layer": 1, "name": 4, "type": 5, "blobs": 6} == numbers("V1LayerParameter")
    assert numbers("V0LayerParameter") | {"name": 1, "type": 2, "blobs": 50} == numbers("V0LayerParameter")
    assert numbers("BlobProto") == {
        "num": 1,
        "channels": 2,
        "height": 3,
        "width": 4,
        "data": 5,
        "diff": 6,
        "shape": 7,
        "double_data": 8,
        "double_diff": 9,
    }


def test_defaults_that_results_depend_on() -> None:
    assert caffe_pb2.BatchNormParameter().eps == pytest.approx(1e-5)
    assert caffe_pb2.ConvolutionParameter().bias_term is True
    assert caffe_pb2.InnerProductParameter().axis == 1
    assert caffe_pb2.PoolingParameter().round_mode == caffe_pb2.PoolingParameter.CEIL
    assert caffe_pb2.EltwiseParameter().operation == caffe_pb2.EltwiseParameter.SUM
