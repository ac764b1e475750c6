from __future__ import annotations

import json
from pathlib import Path

import onnxruntime as ort
import pytest

from senet_convert.deploy.runtime import providers
from senet_convert.deploy.runtime.providers import PROVIDERS, Tuning, arguments, candidates, refuse_fallback
from senet_convert.errors import ConvertError


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS.values()))


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ConvertError, match=r"no provider 'cudda'; choose one of auto, cpu, cuda, tensorrt, openvino"):
        candidates("cudda")


@pytest.mark.parametrize("asked", ["cuda", "tensorrt", "openvino"])
def test_a_provider_that_is_not_built_in_names_its_package(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(ConvertError) as caught:
        candidates(asked)
    extra, package = providers.PACKAGES[asked]
    for words in (f"'{asked}' is not in", "which offers cpu", package, f"senet-convert[{extra}]", ort.__version__):
        assert words in str(caught.value)


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert candidates("auto") == ("cpu",)


@pytest.mark.usefixtures("everywhere")
def test_auto_never_builds_engines() -> None:
    assert candidates("auto") == ("cuda", "openvino", "cpu")
    assert candidates("tensorrt") == ("tensorrt",)


def test_a_silent_fallback_is_an_error() -> None:
    refuse_fallback("cpu", ["CPUExecutionProvider"])
    with pytest.raises(ConvertError, match=r"'cuda' did not start: .* would run on cpu instead.*NVIDIA driver"):
        refuse_fallback("cuda", ["CPUExecutionProvider"])


def test_every_list_ends_with_the_cpu() -> None:
    names = {asked: [name for name, _ in arguments(asked, Tuning(), {}, 2)] for asked in PROVIDERS}
    assert names["cpu"] == [PROVIDERS["cpu"]]
    assert names["cuda"] == [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    assert names["tensorrt"] == [PROVIDERS["tensorrt"], PROVIDERS["cuda"], PROVIDERS["cpu"]]
    assert names["openvino"] == [PROVIDERS["openvino"], PROVIDERS["cpu"]]


def test_nothing_computes_in_less_than_float32() -> None:
    assert arguments("cuda", Tuning(device=1), {}, 2)[0][1].items() >= {"use_tf32": "0", "device_id": "1"}.items()
    config = json.loads(arguments("openvino", Tuning(), {}, 3)[0][1]["load_config"])
    assert config == {"CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 3}}
    assert arguments("tensorrt", Tuning(), {}, 2)[0][1]["trt_fp16_enable"] == "False"


def test_tensorrt_keeps_its_engines_and_knows_the_batch_sizes(tmp_path: Path) -> None:
    tuning = Tuning(buckets=(2, 8), cache=tmp_path / "engines", fp16=True)
    chosen = arguments("tensorrt", tuning, {"data": ["batch", 3, 32, 32]}, 2)[0][1]
    assert tuning.cache is not None
    assert tuning.cache.is_dir()
    assert chosen["trt_engine_cache_path"] == chosen["trt_timing_cache_path"] == str(tuning.cache)
    assert chosen["trt_engine_cache_enable"] == chosen["trt_timing_cache_enable"] == chosen["trt_fp16_enable"] == "True"
    assert chosen["trt_profile_min_shapes"] == "data:2x3x32x32"
    assert chosen["trt_profile_opt_shapes"] == chosen["trt_profile_max_shapes"] == "data:8x3x32x32"


@pytest.mark.parametrize("shape", [[1, 3, 32, 32], ["batch", 3, None, None], []])
def test_tensorrt_has_no_profile_where_shapes_are_fixed_or_wholly_free(shape: list[int | str | None]) -> None:
    assert not [key for key in arguments("tensorrt", Tuning(), {"data": shape}, 2)[0][1] if "profile" in key]
