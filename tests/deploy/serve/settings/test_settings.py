"""The table of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.deploy.serve.settings.settings import TABLE, Settings


def test_every_setting_has_a_help_and_a_default_that_it_can_read_again() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE) > 30
    for row in TABLE:
        assert row.help.endswith("."), row.name
        if row.default not in (None, ()):
            assert row.kind.read(row.show(row.default)) == row.default, row.name


def test_names_in_each_place() -> None:
    row = next(row for row in TABLE if row.field == "max_wait")
    assert (row.name, row.flag, row.variable) == ("max_wait_ms", "--max-wait-ms", "SENET_CONVERT_SERVE_MAX_WAIT_MS")


def test_secrets_are_never_shown() -> None:
    row = next(row for row in TABLE if row.field == "api_key")
    assert row.show(("a-key-of-many-characters",)) == "(1 hidden)"
    assert row.show(()) == ""


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        (Settings(), True),
        (Settings(host="127.0.0.9"), True),
        (Settings(host="::1"), True),
        (Settings(host="localhost"), True),
        (Settings(host="0.0.0.0"), False),
        (Settings(host="example.org"), False),
        (Settings(host="0.0.0.0", api_key=("a-key-of-many-characters",)), True),
        (Settings(host="0.0.0.0", api_keys=Path("keys")), True),
        (Settings(control="off"), False),
        (Settings(host="0.0.0.0", control="on"), True),
    ],
)
def test_who_may_load_and_unload_models(given: Settings, allowed: bool) -> None:
    assert given.controllable is allowed


def test_parts_for_the_engine_and_the_queue() -> None:
    settings = Settings(threads=3, instances=2, max_batch=5, max_wait=0.1, queue=7, deadline=9, engine_cache=Path("c"))
    assert (settings.engine.threads, settings.engine.instances, settings.engine.max_batch) == (3, 2, 5)
    assert settings.engine.tuning.cache == Path("c")
    assert (settings.limits.max_wait, settings.limits.queue, settings.limits.deadline) == (0.1, 7, 9)
