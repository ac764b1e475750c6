from __future__ import annotations

from senet_convert.proto import caffe_pb2
from senet_convert.proto.tree import Fault, Tree, fields, from_message


def test_faults_are_found_at_every_depth_with_their_paths() -> None:
    """What a text does not name as a field has no path, however deep it stands: it cannot be passed over by name."""
    filler, param, layer = Tree(3), Tree(2), Tree(1)
    filler.faults = [Fault(3, "unknown field 'b'", ("b",), 2), Fault(None, "unknown field number 7")]
    param["weight_filler"] = [Tree(4), filler]
    layer.update(convolution_param=param, name="conv", bottom=["data"])
    layer.faults = [Fault(1, "unknown field 'a'", ("a",), 1)]
    found = layer.all_faults()
    assert [fault.path for fault in found] == [("a",), ("convolution_param", "weight_filler", "b"), ()]
    assert [(fault.line, fault.value) for fault in found] == [(1, 1), (3, 2), (None, None)]
    assert [fault.path for fault in filler.faults] == [("b",), ()]


def test_the_values_of_a_blob_are_numbers_whatever_holds_them() -> None:
    """Our caffe.proto has them as bytes, so that no copy is made; in a text, and for Caffe, they are a list."""
    table = fields(caffe_pb2.BlobProto.DESCRIPTOR)
    payloads = {name: (table[name].kind, table[name].repeated) for name in ("data", "diff", "double_data")}
    assert payloads == {"data": ("float", True), "diff": ("float", True), "double_data": ("double", True)}
    assert (table["num"].kind, table["num"].repeated) == ("int32", False)


def test_messages_become_plain_values() -> None:
    net = caffe_pb2.NetParameter(name="net", input=["a", "b"])
    net.layer.add(name="pool", type="Pooling").pooling_param.pool = caffe_pb2.PoolingParameter.AVE
    net.layer[0].param.add(name="w", lr_mult=0.5)
    tree = from_message(net)
    layer = tree["layer"][0]
    assert (tree["name"], tree["input"], layer["param"][0]["lr_mult"]) == ("net", ["a", "b"], 0.5)
    assert layer["pooling_param"] == {"pool": "AVE"}  # an enum by its name, nothing that is not set
    assert (tree.line, tree.all_faults()) == (None, [])


def test_what_the_format_does_not_know_becomes_a_fault_once() -> None:
    net = caffe_pb2.NetParameter.FromString(b"\xc0\x3e\x01\xc0\x3e\x02")  # field 1000, twice
    assert [fault.text for fault in from_message(net).faults] == [
        "unknown field number 1000 of NetParameter, or its value"
    ]
