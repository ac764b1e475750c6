"""Settings from command line, environment and file."""

from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.deploy.serve.settings.config import as_toml, read
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.errors import ConvertError

PREFIX = "SENET_CONVERT_SERVE_"


def file(folder: Path, text: str) -> Path:
    path = folder / "serve.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flag_before_environment_before_file_before_default(bundle: Path, tmp_path: Path) -> None:
    path = file(tmp_path, f'models = ["{bundle}"]\nqueue = 1\nmax_batch = 1\ninstances = 1\n')
    environ = {f"{PREFIX}QUEUE": "2", f"{PREFIX}MAX_BATCH": "2", "PATH": "/bin"}
    settings, origins = read({"queue": 3}, environ, path)
    assert (settings.queue, settings.max_batch, settings.instances, settings.port) == (3, 2, 1, 8000)
    assert [origins[name] for name in ("queue", "max_batch", "instances", "port")] == [
        "command line",
        "environment",
        str(path),
        "default",
    ]


def test_the_environment_names_the_file_too(bundle: Path, tmp_path: Path) -> None:
    path = file(tmp_path, f'models = ["{bundle}"]\nqueue = 5\n')
    assert read({}, {f"{PREFIX}CONFIG": str(path)}, None)[0].queue == 5


def test_lists_of_models(bundle: Path, tmp_path: Path) -> None:
    tables = f'[[models]]\npath = "{bundle}"\n[[models]]\nname = "other"\npath = "{bundle}"\n'
    settings, _ = read({}, {}, file(tmp_path, tables))
    assert [place.name for place in settings.models] == ["digits", "other"]
    settings, _ = read({}, {f"{PREFIX}MODELS": f"{bundle}, b={bundle}"}, None)
    assert [place.name for place in settings.models] == ["digits", "b"]


def test_every_kind_of_value(bundle: Path, tmp_path: Path) -> None:
    text = f'models = ["{bundle}"]\nmax_body = "2M"\nmax_wait_ms = 1.5\ngates = false\nhost = "::1"\nrate = 3\n'
    settings, _ = read({}, {f"{PREFIX}OTEL": "off", f"{PREFIX}TRUSTED_PROXIES": "10.0.0.1, ::1"}, file(tmp_path, text))
    assert (settings.max_body, settings.max_wait, settings.gates, settings.host) == (2 * 2**20, 0.0015, False, "::1")
    assert (settings.rate, settings.otel, settings.trusted_proxies) == (3.0, False, ("10.0.0.1", "::1"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_bach = 3", "'max_bach' is not known; the nearest is 'max_batch'"),
        ("qqqq = 3", "'qqqq' is not known"),
        ("port = 70000", "'port': 70000 is not from 0 to 65535"),
        ("port = true", "'port': True is no whole number"),
        ('queue = "many"', "'queue': 'many' is no whole number"),
        ('max_body = "2 X"', "'max_body': '2 X' is no size such as 512k, 64M or 1G"),
        ("max_body = 10", "'max_body': 10 is not 1024 or more"),
        ("deadline = nan", "'deadline': nan is not a number of at least 0.001"),
        ('grace = "-1"', "'grace': -1 is not a number of at least 0"),
        ("host = 3", "'host': 3 is no text"),
        ('gates = "perhaps"', "'gates': 'perhaps' is neither on nor off"),
        ('control = "maybe"', "'control': 'maybe' is none of auto, on, off"),
        ('provider = "gpu"', "'provider': 'gpu' is none of auto, cpu, cuda, tensorrt, openvino"),
        ('models = ["/nowhere"]', "'models': /nowhere: no model is there"),
        ("models = [{name = 'a'}]", "'models': a model is a table of path and perhaps name, not of name"),
        ("models = 3", "'models': 3 is no list"),
        ('repository = "/nowhere"', "'repository': /nowhere: there is no such folder"),
        ('tls_cert = "/nowhere"', "'tls_cert': /nowhere: there is no such file"),
        ('api_key = ["a-key-of-many-characters"]', "'api_key' is a secret, which does not belong here"),
        ("port = ", "not TOML"),
    ],
)
def test_what_a_file_must_not_say(text: str, told: str, tmp_path: Path) -> None:
    path = file(tmp_path, text)
    with pytest.raises(ConvertError) as refused:
        read({}, {}, path)
    assert str(path) in str(refused.value)
    assert told in str(refused.value)
    assert "a-key-of" not in str(refused.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConvertError) as refused:
        read({}, {f"{PREFIX}PORT": "x", f"{PREFIX}HOTS": "y"}, file(tmp_path, "queue = 0"))
    assert f"environment variable {PREFIX}PORT: 'x' is no whole number" in str(refused.value)
    assert f"{PREFIX}HOTS is not known; the nearest is '{PREFIX}HOST'" in str(refused.value)
    assert "serve.toml: 'queue': 0 is not 1 or more" in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({}, "there is nothing to serve"),
        ({"repository": Path(), "tls_cert": Path("c")}, "TLS needs both"),
        ({"repository": Path(), "max_inflight": 1024}, "is less than --max-body"),
        ({"repository": Path(), "grpc_port": 8000}, "cannot share port 8000"),
    ],
)
def test_what_does_not_fit_together(flags: dict[str, object], told: str) -> None:
    with pytest.raises(ConvertError, match=told):
        read(flags, {}, None)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConvertError, match="/nowhere: there is no such file"):
        read({}, {}, Path("/nowhere"))


def test_what_is_shown_sets_the_same(bundle: Path, tmp_path: Path) -> None:
    environ = {f"{PREFIX}API_KEY": "a-key-of-many-characters", f"{PREFIX}MAX_BODY": "3M", f"{PREFIX}RATE": "2.5"}
    flags = {"trusted_proxies": ("a", "b"), "gates": False, "repository": tmp_path}
    settings, origins = read(
        flags | {"models": read({}, {f"{PREFIX}MODELS": str(bundle)}, None)[0].models}, environ, None
    )
    shown = as_toml(settings, origins)
    assert "a-key" not in shown
    assert 'max_body = "3M"  # environment' in shown
    again, _ = read({}, {}, file(tmp_path, shown))
    assert again == Settings(**{**vars(settings), "api_key": ()})
