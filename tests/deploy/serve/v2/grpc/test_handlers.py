"""What stands around every call: keys, rates, sizes, the log, and how faults are told."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelMetadataRequest
from tritonclient.utils import InferenceServerException

from senet_convert.deploy.serve import errors
from senet_convert.deploy.serve.http.statuses import STATUSES
from senet_convert.deploy.serve.models.errors import ModelError
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.observe.logs import ACCESS
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.v2.grpc.handlers import TOLD
from senet_convert.deploy.serve.v2.grpc.statuses import CODES, MODEL_CODES
from senet_convert.deploy.serve.v2.grpc.wire import BROKEN

from .live import Live, rows, tensor, until

KEY = "0123456789abcdef-one"


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(InferenceServerException) as caught:
        call()
    return str(caught.value.status())


def settings(plus: Path, **fields: Any) -> Settings:
    return dataclasses.replace(Settings(models=(ModelPath("plus", plus),), threads=1), **fields)


def test_every_fault_of_this_protocol_has_a_code() -> None:
    known = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    only_http = {errors.WRONG_TYPE, errors.NO_IMAGE}
    assert set(CODES) == known - only_http


def test_every_fault_of_a_model_has_a_status_and_a_code() -> None:
    assert set(ModelError.__subclasses__()) == set(STATUSES) == set(MODEL_CODES)


def test_without_a_key_nothing_but_probes_is_answered(plus: Path) -> None:
    with Live(settings(plus, api_key=(KEY,))) as live, live.client() as client:
        for headers in ({}, {"x-api-key": "0123456789abcdef-two"}, {"authorization": f"Basic {KEY}"}):
            assert client.is_server_live(headers=headers)
            assert client.is_server_ready(headers=headers)
            calls: list[Callable[[], Any]] = [
                lambda headers=headers: client.is_model_ready("plus", headers=headers),  # type: ignore[misc]
                lambda headers=headers: client.get_server_metadata(headers=headers),  # type: ignore[misc]
                lambda headers=headers: client.load_model("plus", headers=headers),  # type: ignore[misc]
                lambda headers=headers: client.infer("plus", [tensor("x", rows(1.0))], headers=headers),  # type: ignore[misc]
            ]
            assert [code_of(call) for call in calls] == ["StatusCode.UNAUTHENTICATED"] * 4
        for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
            found = client.infer("plus", [tensor("x", rows(1.0))], headers=headers)
            assert found.as_numpy("y")[0, 0] == 3.0
            client.load_model("plus", headers=headers)


def test_a_stream_without_a_key_is_refused_before_it_is_read(plus: Path) -> None:
    with Live(settings(plus, api_key=(KEY,))) as live, live.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.ModelStreamInfer(iter([ModelInferRequest()])))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "authorization: bearer" in caught.value.details().lower()


def test_no_client_asks_more_often_than_it_may(plus: Path) -> None:
    with Live(settings(plus, rate=0.001)) as live, live.client() as client:
        assert client.is_model_ready("plus")
        assert code_of(lambda: client.is_model_ready("plus")) == "StatusCode.UNAVAILABLE"
        assert client.is_server_ready()
        with live.stub() as stub, pytest.raises(grpc.RpcError) as caught:
            stub.ModelMetadata(ModelMetadataRequest(name="plus"))
        assert int(dict(caught.value.trailing_metadata())["retry-after"]) > 900


def test_a_message_that_is_too_long_is_refused_by_its_length(plus: Path) -> None:
    with Live(settings(plus, max_body=64 * 1024)) as live, live.client() as client:
        long = tensor("x", rows(*range(6000)))
        assert code_of(lambda: client.infer("plus", [long])) == "StatusCode.RESOURCE_EXHAUSTED"
        zipped = {"compression_algorithm": "gzip"}
        assert code_of(lambda: client.infer("plus", [long], **zipped)) == "StatusCode.RESOURCE_EXHAUSTED"
        assert client.infer("plus", [tensor("x", rows(1.0))]).as_numpy("y")[0, 0] == 3.0


def test_all_requests_together_hold_only_so_much(plus: Path) -> None:
    with Live(settings(plus, max_inflight=50)) as live, live.client() as client:
        assert code_of(lambda: client.infer("plus", [tensor("x", rows(1.0, 2.0, 3.0))])) == "StatusCode.UNAVAILABLE"
        assert client.infer("plus", [tensor("x", rows(1.0))]).as_numpy("y")[0, 0] == 3.0
        until(lambda: live.state.held == 0)


def test_a_long_name_does_not_come_back_whole(live: Live) -> None:
    with live.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.ModelMetadata(ModelMetadataRequest(name="ü" * 100_000))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert len(caught.value.details().encode()) <= TOLD + 3


def test_a_line_in_the_log_for_each_call(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    def infers() -> list[dict[str, Any]]:
        name = "/inference.GRPCInferenceService/ModelInfer"
        return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == name]

    with live.client() as client:
        client.is_server_live()
        caplog.set_level(logging.INFO, ACCESS)
        client.infer("plus", [tensor("x", rows(1.0, 2.0))], headers={"x-request-id": "seen-1"})
        code_of(lambda: client.infer("nix", [tensor("x", rows(1.0))]))
        until(lambda: len(infers()) == 2)
    good, bad = infers()
    assert (good["status"], good["model"], good["version"], good["rows"]) == ("OK", "plus", "2", 2)
    assert (good["protocol"], good["client"]) == ("grpc", "127.0.0.1")
    assert bad["status"] == "NOT_FOUND"


def test_the_request_s_id_comes_back(live: Live) -> None:
    with live.stub() as stub:
        _, call = stub.ServerLive.with_call(_empty(), metadata=(("x-request-id", "seen-2"),))
        assert dict(call.trailing_metadata())["x-request-id"] == "seen-2"
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelMetadata(ModelMetadataRequest(name="nix"), metadata=(("x-request-id", "seen-3"),))
        assert dict(caught.value.trailing_metadata())["x-request-id"] == "seen-3"


def test_an_unknown_call_is_unimplemented(live: Live) -> None:
    with grpc.insecure_channel(live.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_are_no_message_are_refused(live: Live) -> None:
    with grpc.insecure_channel(live.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"\xff" * 100)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == BROKEN
    with live.client() as client:
        assert client.is_server_live()


def _empty() -> Any:
    from tritonclient.grpc.service_pb2 import ServerLiveRequest

    return ServerLiveRequest()
