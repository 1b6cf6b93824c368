"""The contract's limits: the outermost value passes, the next one is refused by name."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc import requests, validation
from spooled_pipelines.rpc.decode import time_from

HOUR = timezone(timedelta(hours=1))


def enqueue(**change: Any) -> Any:
    return requests.enqueue(**{"queue_name": "q", "payload": {}, "idempotency_key": "k", **change})


def dequeue(**change: Any) -> Any:
    return requests.dequeue(**{"queue_name": "q", "worker_id": "w", **change})


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (enqueue, {"queue_name": "a" * 100}),
        (enqueue, {"queue_name": "A.b-c_9"}),
        (enqueue, {"queue_name": "_x"}),
        (enqueue, {"priority": -100}),
        (enqueue, {"priority": 100}),
        (enqueue, {"max_retries": 100}),
        (enqueue, {"max_retries": 0}),
        (enqueue, {"timeout_seconds": 86_400}),
        (enqueue, {"idempotency_key": "é" * 255}),
        (enqueue, {"tags": {"k": "v" * 65_535}}),
        (dequeue, {"worker_id": "w" * 128}),
        (dequeue, {"worker_id": "-.w"}),
        (dequeue, {"batch_size": 1}),
        (dequeue, {"batch_size": 100}),
        (dequeue, {"lease_seconds": 5}),
        (dequeue, {"lease_seconds": 3600}),
    ],
)
def test_the_outermost_values_are_let_through(
    make: Callable[..., Any], change: dict[str, Any]
) -> None:
    make(**change)


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (enqueue, {"queue_name": ""}),
        (enqueue, {"queue_name": "a" * 101}),
        (enqueue, {"queue_name": ".a"}),
        (enqueue, {"queue_name": "-a"}),
        (enqueue, {"queue_name": "a b"}),
        (enqueue, {"queue_name": "a\n"}),
        (enqueue, {"queue_name": "ä"}),
        (enqueue, {"queue_name": None}),
        (enqueue, {"priority": 101}),
        (enqueue, {"priority": -101}),
        (enqueue, {"priority": 1.5}),
        (enqueue, {"priority": True}),
        (enqueue, {"max_retries": 101}),
        (enqueue, {"max_retries": -1}),
        (enqueue, {"timeout_seconds": 86_401}),
        (enqueue, {"timeout_seconds": -1}),
        (enqueue, {"idempotency_key": ""}),
        (enqueue, {"idempotency_key": "k" * 256}),
        (enqueue, {"idempotency_key": "\ud800"}),
        (enqueue, {"tags": {"k": "v" * 65_536}}),
        (enqueue, {"tags": {"k": 1}}),
        (enqueue, {"tags": ["k"]}),
        (enqueue, {"scheduled_at": datetime(2026, 1, 1)}),  # noqa: DTZ001 (what is refused)
        (enqueue, {"scheduled_at": "tomorrow"}),
        (dequeue, {"worker_id": ""}),
        (dequeue, {"worker_id": "w" * 129}),
        (dequeue, {"worker_id": "a/b"}),
        (dequeue, {"batch_size": 0}),
        (dequeue, {"batch_size": 101}),
        (dequeue, {"lease_seconds": 4}),
        (dequeue, {"lease_seconds": 3601}),
    ],
)
def test_what_is_beyond_is_refused_by_name(
    make: Callable[..., Any], change: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        make(**change)
    (name,) = change
    assert name in caught.value.message
    assert len(caught.value.message) < 400


def test_a_long_error_is_cut_and_the_cut_is_seen() -> None:
    text = validation.error_text("x" * 3000)
    assert len(text) == 2048
    assert text.endswith("…")
    assert validation.error_text("x" * 2048) == "x" * 2048


def test_an_empty_error_is_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        validation.error_text("")


@given(st.datetimes(timezones=st.sampled_from([timezone.utc, HOUR])))
def test_a_time_goes_and_comes_back_as_the_same_moment(moment: datetime) -> None:
    try:
        in_utc = moment.astimezone(timezone.utc)
    except OverflowError:
        return
    back = time_from(validation.timestamp(moment, "scheduled_at"))
    assert back == moment
    assert back.tzinfo is timezone.utc
    assert back == in_utc


def test_only_the_guides_own_clients_use_the_guides_fields() -> None:
    """Fields from 100 up are for reading what others send."""
    message = dequeue(batch_size=7)
    assert message.batch_size == 7
    assert all(field.number < 100 for field, _ in message.ListFields())
    renewal = requests.renew_lease("j", "w", lease_seconds=60, lease_id="l")
    assert renewal.extension_secs == 60
    assert all(field.number < 100 for field, _ in renewal.ListFields())
