from __future__ import annotations

import gzip
import io
import re
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from senet_convert.errors import ReadError
from senet_convert.proto import NetDef, binary, read_caffemodel
from senet_convert.proto.tree import Tree, from_message
from senet_convert.proto.wire import Walker, WireError

from .reference import message_class, plain


def number(value: int) -> bytes:
    """A varint."""
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(tag: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return number(tag << 3 | 2) + number(len(payload)) + payload


def layer_of(*blobs: bytes, name: bytes = b"conv") -> bytes:
    return field(100, field(1, name) + field(2, b"Convolution") + b"".join(field(7, blob) for blob in blobs))


def floats(*values: float) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def loose(*values: float, tag: int = 5) -> bytes:
    """Unpacked floats."""
    return b"".join(number(tag << 3 | 5) + floats(value) for value in values)


def shaped(*dims: int) -> bytes:
    return field(7, field(1, b"".join(number(dim % 2**64) for dim in dims)))


def read(folder: Path, data: bytes) -> Tree:
    path = folder / "net.caffemodel"
    path.write_bytes(data)
    return binary.read_binary(path)


def net_of(folder: Path, data: bytes) -> NetDef:
    (folder / "net.caffemodel").write_bytes(data)
    return read_caffemodel(folder / "net.caffemodel")


def blob_of(folder: Path, blob: bytes) -> Tree:
    tree: Tree = read(folder, layer_of(blob))["layer"][0]["blobs"][0]
    return tree


def fails(folder: Path, data: bytes) -> str:
    with pytest.raises(ReadError) as caught:
        read(folder, data)
    assert str(folder / "net.caffemodel") in str(caught.value)
    return str(caught.value)


def network(packed: bool = True) -> Any:
    """A small network with blobs, written by protobuf itself."""
    net = message_class(packed=packed)(name="net", input=["data"], input_dim=[1, 3, 2, 2])
    conv = net.layer.add(name="conv/ä", type="Convolution", bottom=["data"], top=["conv"])
    conv.convolution_param.kernel_size.append(2)
    conv.param.add(lr_mult=0.1, name="w")
    weight = conv.blobs.add(data=[1.5, float("nan"), -0.0, 3e-45, 0.1, 7], diff=[9] * 6)
    weight.shape.dim.extend([2, 3])
    conv.blobs.add(double_data=[0.1, 2], num=1, channels=1, height=1, width=2)
    net.layer.add(name="relu", type="ReLU", bottom=["conv"], top=["conv"])
    return net


# ---- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_a_network_is_what_protobuf_reads(tmp_path: Path, packed: bool) -> None:
    net = network(packed)
    got = plain(read(tmp_path, net.SerializeToString()))
    want = plain(from_message(net))
    assert want["layer"][0]["blobs"][0].pop("diff")
    assert got == want


@pytest.mark.parametrize(
    ("blob", "values"),
    [
        (field(5, floats(1, 2, 3)), [1, 2, 3]),
        (loose(1, 2, 3), [1, 2, 3]),
        (loose(1), [1]),
        (field(5, floats(1)) + field(5, floats(2, 3)), [1, 2, 3]),
        (loose(1) + field(5, floats(2)) + loose(3, 4), [1, 2, 3, 4]),
        (field(5, floats(1)) + shaped(3) + loose(2) + b"\x08\x02" + field(5, floats(3)), [1, 2, 3]),
        (loose(1) + loose(8, 9, tag=6) + loose(2) + field(6, b"xyz"), [1, 2]),
        (field(5, b""), []),
        (field(5, b"") + loose(4), [4]),
        (field(5, floats(1, 2)) * 3, [1, 2] * 3),
        (field(5, floats(1)) * 1000 + field(5, floats(2, 3)) * 40 + loose(4), [1] * 1000 + [2, 3] * 40 + [4]),
        (field(5, b"") * 3 + field(5, floats(1)), [1]),
        (b"".join(loose(i) + loose(-i, tag=6) for i in range(50)), [*range(50)]),
        (
            b"".join(field(5, floats(*[i] * (1 + i % 3))) for i in range(9)),
            [0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5, 6, 7, 7, 8, 8, 8],
        ),
    ],
)
def test_payloads_in_every_form_that_protobuf_allows(tmp_path: Path, blob: bytes, values: list[float]) -> None:
    data = blob_of(tmp_path, blob)["data"]
    assert data.dtype == np.dtype("<f4")
    assert data.tolist() == values


def test_a_torn_piece_behind_unpacked_floats_is_refused(tmp_path: Path) -> None:
    """Views of the file that live on in the traceback would keep it from being closed."""
    said = fails(tmp_path, layer_of(loose(1, 2, 3, 4) + field(5, b"abc")))
    assert "3 bytes of 4-byte floats at offset" in said


def test_payloads_of_double_builds(tmp_path: Path) -> None:
    packed = field(8, np.array([0.1, 2], "<f8").tobytes())
    single = b"\x41" + np.array([0.3], "<f8").tobytes()
    blob = blob_of(tmp_path, packed + single + field(9, bytes(16)))
    assert blob["double_data"].dtype == np.dtype("<f8")
    assert blob["double_data"].tolist() == [0.1, 2, 0.3]
    assert set(blob) == {"double_data"}


@pytest.mark.parametrize("shift", range(9))
def test_payloads_at_any_offset_come_bit_for_bit(tmp_path: Path, shift: int) -> None:
    values = np.random.default_rng(shift).integers(0, 2**32, 1000, dtype=np.uint32)  # NaNs with payloads among them
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer_of(field(5, values.tobytes()), name=b"n" * (shift + 1)))
    data = binary.read_binary(path)["layer"][0]["blobs"][0]["data"]
    assert data.flags.aligned and data.flags.writeable
    np.testing.assert_array_equal(data.view(np.uint32), values)


def test_arrays_outlive_the_file(tmp_path: Path) -> None:
    data = blob_of(tmp_path, loose(5))["data"]
    (tmp_path / "net.caffemodel").write_bytes(b"")
    assert data.tolist() == [5]


def test_shapes_are_kept_as_written(tmp_path: Path) -> None:
    net = net_of(tmp_path, layer_of(field(7, b"") + loose(1)))
    assert net.layers[0].blobs[0].shape == ()
    net = net_of(tmp_path, layer_of(b"\x08\x01\x10\x01\x18\x01\x20\x02" + loose(1, 2)))
    assert (net.layers[0].blobs[0].shape, net.layers[0].blobs[0].legacy) == ((1, 1, 1, 2), True)
    unpacked = field(7, b"\x08\x02\x08\x01")
    assert net_of(tmp_path, layer_of(unpacked + loose(1, 2))).layers[0].blobs[0].shape == (2, 1)


def test_the_inner_layers_of_v0_hold_their_blobs(tmp_path: Path) -> None:
    net = message_class()()
    inner = net.layers.add(bottom=["a"], top=["b"]).layer
    inner.name, inner.type = "conv1", "conv"
    inner.blobs.add(data=[1, 2], num=1, channels=1, height=1, width=2)
    tree = read(tmp_path, net.SerializeToString())
    assert plain(tree) == plain(from_message(net))
    assert isinstance(tree["layers"][0]["layer"]["blobs"][0]["data"], np.ndarray)


def test_unknown_fields_become_faults_of_their_layer(tmp_path: Path) -> None:
    param = field(106, b"\xf8\x07\x05")  # field 127 of ConvolutionParameter
    data = field(100, field(1, b"a") + param + field(5000, b"x") + field(5000, b"y")) + field(100, field(1, b"b"))
    first, second = read(tmp_path, data)["layer"]
    assert [fault.text for fault in first.all_faults()] == [
        "unknown field number 5000 of LayerParameter, or its value",
        "unknown field number 127 of ConvolutionParameter, or its value",
    ]
    assert second.all_faults() == []


def test_unknown_enum_values_become_faults(tmp_path: Path) -> None:
    (layer,) = read(tmp_path, field(100, field(121, b"\x08\x09")))["layer"]  # pool: 9
    assert [fault.text for fault in layer.all_faults()] == ["unknown field number 1 of PoolingParameter, or its value"]


def test_names_that_are_not_utf8_stay_different(tmp_path: Path) -> None:
    one, other = read(tmp_path, layer_of(name=b"\xff") + layer_of(name=b"\xfe\xc3\xa4"))["layer"]
    assert (one["name"], other["name"]) == ("\\xff", "\\xfeä")


# ---- what it costs ---------------------------------------------------------------------------------------------------


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MIB = 1 << 20


def test_diff_is_never_read(tmp_path: Path) -> None:
    size = 64 * MIB
    path = tmp_path / "net.caffemodel"
    head = field(5, floats(1, 2)) + number(6 << 3 | 2) + number(size)
    blob = number(7 << 3 | 2) + number(len(head) + size) + head
    layer = field(1, b"conv") + blob
    with path.open("wb") as file:
        file.write(number(100 << 3 | 2) + number(len(layer) + size) + layer)
        file.truncate(file.tell() + size)
    assert peak_of(lambda: binary.read_binary(path)) < MIB


def test_an_unpacked_diff_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer_of(loose(1) + loose(0, tag=6) * (4 * MIB)))
    start = time.perf_counter()
    assert peak_of(lambda: binary.read_binary(path)) < 8 * MIB
    assert time.perf_counter() - start < 3


def test_a_payload_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer_of(field(5, bytes(32 * MIB))))
    assert peak_of(lambda: binary.read_binary(path)) < 33 * MIB


@pytest.mark.parametrize("dims", [(10**6, 10**6), (10**12,), (2**31, 1), (1,) * 33, (-13, 3), (-1, -1)])
def test_shapes_that_no_blob_has_allocate_nothing(tmp_path: Path, dims: tuple[int, ...]) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer_of(shaped(*dims) + loose(1)))

    def refused() -> None:
        with pytest.raises(ReadError, match="layer 'conv', blob 0"):
            read_caffemodel(path)

    assert peak_of(refused) < MIB


def test_many_pieces_of_one_size_are_no_more_than_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senet_convert.proto.wire.MAX_FIELDS", 10)
    assert blob_of(tmp_path, field(5, floats(1)) * 1000)["data"].tolist() == [1] * 1000
    assert blob_of(tmp_path, field(6, floats(1)) * 1000 + loose(2))["data"].tolist() == [2]


HOSTILE = {
    "layers": layer_of() * 100_000,
    "layers of nothing": field(100, b"") * 300_000,
    "layers of 2014": field(2, field(4, b"a")) * 100_000,
    "blobs": layer_of(*[b""] * 400_000),
    "pieces of many sizes": layer_of((field(5, floats(1)) + field(5, floats(1, 2))) * 200_000),
    "values and gradients in turn": layer_of((loose(1) + loose(2, tag=6)) * 200_000),
    "values in two forms": layer_of((loose(1) + field(5, floats(2))) * 200_000),
    "bottoms": field(100, field(3, b"x") * 400_000),
    "unknown fields": field(100, b"\xc0\xb8\x02\x01" * 400_000),
    "inputs": field(3, b"x") * 400_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_files_of_far_more_parts_than_any_network_has_are_refused(tmp_path: Path, data: bytes) -> None:
    assert re.search(r"more than (300000 fields|30000 layers) by offset \d+", fails(tmp_path, data))


def test_too_many_layers_are_refused_and_no_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "MAX_LAYERS", 5)
    assert len(read(tmp_path, layer_of() * 5)["layer"]) == 5
    assert "more than 5 layers" in fails(tmp_path, layer_of() * 6)


def test_a_damaged_file_of_many_blobs_is_refused_with_some_of_them(tmp_path: Path) -> None:
    with pytest.raises(ReadError) as caught:
        net_of(tmp_path, layer_of(*[b""] * 50_000))
    assert "50000 problems" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 50


def test_a_huge_definition_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "MAX_DEFINITION", 1000)
    assert "2003 bytes of definition in one LayerParameter" in fails(tmp_path, field(100, field(3, b"x" * 2000)))


# ---- what is refused -------------------------------------------------------------------------------------------------


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("net.caffemodel", layer_of())
    return out.getvalue()


OTHER_KINDS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty (0 bytes)"),
    "zeros": (bytes(4096), "a field numbered 0 at offset 0"),
    "html": (b"<!DOCTYPE html>\n<html>", "a web page"),
    "text": (b'name: "a"\r\nlayer { }\n', "it is a text file"),
    "text in utf-8": ('# ä\nname: "a"\n'.encode(), "it is a text file"),
    "blanks": (b"  \n", "it is a text file"),
    "html behind a mark and blanks": (b"\xef\xbb\xbf\r\n\n<!DOCTYPE html>\n<html>", "a web page"),
    "text in utf-16": ('name: "a"'.encode("utf-16"), "text in UTF-16: save it as UTF-8"),
    "text in latin-1": ('# \xe4\xf6\nname: "a"\n'.encode("latin-1"), "it is a text file"),
    "text cut inside a character": (("#" * 4095 + "\u00e4").encode() + b"\n", "it is a text file"),
    "ones": (b"\xff" * 4096, "not a caffemodel, or damaged"),
    "solverstate": (
        b"\x08\x90\x4e" + field(2, b"/home/u/se_iter_10000.caffemodel") + field(3, field(5, floats(1))) + b"\x20\x02",
        "it is a solverstate, which holds the training's state and no weights. Give the caffemodel that was saved "
        "with it, 'se_iter_10000.caffemodel'",
    ),
    "solverstate of Windows": (b"\x08\x01" + field(2, rb"C:\se\a.caffemodel"), "with it, 'a.caffemodel'"),
    "solverstate that names no weights": (b"\x08\x01" + field(3, field(5, floats(1))), "it is a solverstate"),
    "solverstate without a history": (b"\x08\x01\x20\x02", "it is a solverstate"),
    "an ONNX model": (
        helper.make_model(helper.make_graph([], "g", [], []), producer_name="pytorch").SerializeToString(),
        "it is an ONNX model. Give the caffemodel",
    ),
    "an ONNX model without a producer": (
        helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString(),
        "it is an ONNX model",
    ),
    "what only begins like a solverstate": (b"\x08\x01" + field(40, b""), "it holds no layers"),
    "a mean image of 2013": (
        b"\x08\x01\x10\x03\x18\x02\x20\x02" + loose(*range(12)),
        "a mean image (mean.binaryproto), which --mean",
    ),
    "gzip": (gzip.compress(layer_of()), "gzip"),
    "zip": (zipped(), "zip archive"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    "a blob alone": (field(5, floats(1, 2)) + b"\x08\x01", "it holds no layers"),
    "a net without layers": (field(1, b"net"), "it holds no layers"),
    "random bytes": (np.random.default_rng(0).bytes(2000), "not a caffemodel, or damaged"),
}


@pytest.mark.parametrize(("data", "words"), OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_files_of_other_kinds_are_named(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in fails(tmp_path, data)


@pytest.mark.parametrize("rest", [b"<html>" + b" " * 500, bytes(16), b"\x0b", b"\xff" * 30, b"\xa2\x06\x05"])
def test_what_follows_a_whole_network_is_refused_with_the_last_layer(tmp_path: Path, rest: bytes) -> None:
    data = network().SerializeToString()
    said = fails(tmp_path, data + rest)
    assert "truncated or damaged: " in said
    assert "after layer 'relu'" in said
    assert f"the file has {len(data) + len(rest)} bytes" in said


BROKEN: dict[str, tuple[bytes, str]] = {
    "payload of a length that is no float's": (layer_of(field(5, b"12345")), "5 bytes of 4-byte floats at offset"),
    "payload of a length that is no double's": (layer_of(field(8, bytes(12))), "12 bytes of 8-byte floats"),
    "pieces of half a float": (layer_of(field(5, b"12") * 2), "2 bytes of 4-byte floats"),
    "payload as an integer": (layer_of(b"\x28\x01"), "a blob's 'data' is not made of floats"),
    "payload as doubles": (layer_of(b"\x29" + bytes(8)), "a blob's 'data' is not made of floats"),
    "blob beyond its layer": (field(100, field(1, b"c") + b"\x3a\x20"), "needs 32 bytes, 0 are left"),
    "group in a layer": (field(100, b"\x0b\x0c"), "wire type 3"),
    "V0 twice in a layer": (field(2, field(1, field(1, b"a")) * 2), "2 definitions in one layer"),
    "a parameter cut short": (field(100, field(106, b"\x3a\x09\x01")), "Error parsing message"),
}


@pytest.mark.parametrize(("data", "words"), BROKEN.values(), ids=BROKEN)
def test_broken_layers_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in fails(tmp_path, data)


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_cut_anywhere_is_refused_or_whole_up_to_there(tmp_path: Path, packed: bool) -> None:
    whole = network(packed).SerializeToString()
    path = tmp_path / "net.caffemodel"
    good = []
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            net = read_caffemodel(path)
        except ReadError:
            continue
        good.append(size)
        assert [layer.name for layer in net.layers] == ["conv/ä"]
        assert net.layers[0].blobs[0].data.size == 6
    assert len(good) == 1, "only the cut between the two layers leaves a network"


def test_every_changed_byte_gives_a_network_or_a_read_error(tmp_path: Path) -> None:
    whole = network().SerializeToString()
    path = tmp_path / "net.caffemodel"
    for at in range(len(whole)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, whole[at] ^ 0x10):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                read_caffemodel(path)
            except ReadError as fault:
                assert str(path) in str(fault)


def test_a_file_of_two_gibibytes_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    with path.open("wb") as file:
        file.truncate(binary.MAX_BYTES + 1)
    with pytest.raises(ReadError, match="less than 2 GiB"):
        binary.read_binary(path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    class Short(io.BufferedReader):
        def readinto(self, buffer: Any) -> int:
            return 0

    reader = binary._Reader(Short(io.BytesIO(b"")), Walker(layer_of(field(5, floats(1)))))
    with pytest.raises(WireError, match="became shorter"):
        reader.net(len(layer_of(field(5, floats(1)))))
