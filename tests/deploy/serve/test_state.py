"""Who is let in, how often, and how much may be held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from senet_convert.deploy.serve import context
from senet_convert.deploy.serve.context import RequestContext
from senet_convert.deploy.serve.errors import AWAY, BUSY, NO_KEY, RequestError
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from senet_convert.errors import ConvertError

KEY = "a-key-of-many-characters"


@pytest.fixture
def one() -> Iterator[RequestContext]:
    """The account of a request that is being answered."""
    made = RequestContext(client="127.0.0.1")
    token = context.current._var.set(made)
    yield made
    context.current._var.reset(token)


def test_a_key_names_the_client(one: RequestContext) -> None:
    state = ServerState(Settings(api_key=(KEY,)))
    for wrong in ({}, {"x-api-key": "another"}):
        with pytest.raises(RequestError, match="API key") as refused:
            state.admit(wrong)
        assert refused.value.status == NO_KEY
    state.admit({"authorization": f"Bearer {KEY}"})
    assert one.client.startswith("key-")


def test_without_keys_everybody_is_let_in(one: RequestContext) -> None:
    ServerState(Settings()).admit({})
    assert one.client == "127.0.0.1"


def test_the_rate_is_the_clients(one: RequestContext) -> None:
    state = ServerState(Settings(rate=0.5))
    state.limit_rate()
    with pytest.raises(RequestError) as refused:
        state.limit_rate()
    assert (refused.value.status, refused.value.retry_after) == (BUSY, 2)
    one.client = "another"
    state.limit_rate()


def test_what_is_held_is_let_go_even_where_it_was_refused(one: RequestContext) -> None:
    state = ServerState(Settings(max_inflight=100))
    state.hold(60)
    with pytest.raises(RequestError) as refused:
        state.hold(60)
    assert refused.value.status == AWAY
    state.release(one)
    state.release(one)
    assert (state.held, one.held) == (0, 0)


def test_two_models_of_one_name() -> None:
    with pytest.raises(ConvertError, match="several models are called a"):
        ServerState(Settings((ModelPath("a", Path("x")), ModelPath("a", Path("y")))))
