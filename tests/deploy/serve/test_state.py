"""Who is let in, how often, and how much may be held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from senet_convert.deploy.serve import context
from senet_convert.deploy.serve.context import Account
from senet_convert.deploy.serve.errors import AWAY, BUSY, NO_KEY, RequestError
from senet_convert.deploy.serve.models.model_paths import Place
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import Hub
from senet_convert.errors import ConvertError

KEY = "a-key-of-many-characters"


@pytest.fixture
def one() -> Iterator[Account]:
    """The account of a request that is being answered."""
    made = Account(client="127.0.0.1")
    token = context.current._var.set(made)
    yield made
    context.current._var.reset(token)


def test_a_key_names_the_client(one: Account) -> None:
    hub = Hub(Settings(api_key=(KEY,)))
    for wrong in ({}, {"x-api-key": "another"}):
        with pytest.raises(RequestError, match="API key") as refused:
            hub.admit(wrong)
        assert refused.value.status == NO_KEY
    hub.admit({"authorization": f"Bearer {KEY}"})
    assert one.client.startswith("key-")


def test_without_keys_everybody_is_let_in(one: Account) -> None:
    Hub(Settings()).admit({})
    assert one.client == "127.0.0.1"


def test_the_rate_is_the_clients(one: Account) -> None:
    hub = Hub(Settings(rate=0.5))
    hub.limit_rate()
    with pytest.raises(RequestError) as refused:
        hub.limit_rate()
    assert (refused.value.status, refused.value.retry_after) == (BUSY, 2)
    one.client = "another"
    hub.limit_rate()


def test_what_is_held_is_let_go_even_where_it_was_refused(one: Account) -> None:
    hub = Hub(Settings(max_inflight=100))
    hub.hold(60)
    with pytest.raises(RequestError) as refused:
        hub.hold(60)
    assert refused.value.status == AWAY
    hub.release(one)
    hub.release(one)
    assert (hub.held, one.held) == (0, 0)


def test_two_models_of_one_name() -> None:
    with pytest.raises(ConvertError, match="several models are called a"):
        Hub(Settings((Place("a", Path("x")), Place("a", Path("y")))))
