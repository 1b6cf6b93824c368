"""What is on its way at once follows what the server can take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.batch.flow_control import AdaptiveLimit


def serve(window: AdaptiveLimit, answers: int, seconds: float) -> None:
    for _ in range(answers):
        window.answered(seconds)


def test_it_grows_by_one_a_round_while_answers_come_in_time() -> None:
    window = AdaptiveLimit(first=8, most=12)
    serve(window, 9, 0.02)
    assert window.limit == 9
    serve(window, 1_000, 0.02)
    assert window.limit == 12


def test_it_is_halved_once_a_round_when_answers_take_much_longer() -> None:
    window = AdaptiveLimit(first=32, most=64)
    serve(window, 1, 0.01)
    serve(window, 32, 0.5)
    assert window.limit == 16
    serve(window, 16, 0.5)
    assert window.limit == 8
    serve(window, 1_000, 0.5)
    assert window.limit == 1


def test_a_server_that_has_become_slower_for_good_is_believed() -> None:
    window = AdaptiveLimit(first=16, most=64)
    serve(window, 1, 0.01)
    serve(window, 20_000, 0.2)
    assert window.limit == 64


def test_a_refusal_halves_it_and_holds_everything_back() -> None:
    now = 100.0
    window = AdaptiveLimit(16, 64, clock=lambda: now)
    window.refused(2.0)
    assert (window.limit, window.wait()) == (8, 2.0)
    # Those that were on their way at that moment are refused as well, which is no news.
    for _ in range(15):
        window.refused(1.5)
    assert (window.limit, window.wait()) == (8, 2.0)
    now = 101.5
    assert window.wait() == 0.5
    now = 103.0
    assert window.wait() == 0
    window.refused(1.0)
    assert (window.limit, window.wait()) == (4, 1.0)


@given(st.lists(st.one_of(st.none(), st.floats(0.0001, 100)), max_size=200))
def test_it_stays_within_its_bounds(answers: list[float | None]) -> None:
    window = AdaptiveLimit(first=8, most=32, least=2)
    for seconds in answers:
        if seconds is None:
            window.refused(0.1)
        else:
            window.answered(seconds)
        assert 2 <= window.limit <= 32


def test_it_may_double_each_round_until_answers_begin_to_wait_for_one_another() -> None:
    window = AdaptiveLimit(first=8, most=256, doubles=True)
    serve(window, 8, 0.02)
    assert window.limit == 16
    serve(window, 16, 0.02)
    assert window.limit == 32
    serve(window, 1, 0.045)
    serve(window, 33, 0.02)
    assert window.limit == 33


def test_after_a_refusal_it_does_not_double_any_more() -> None:
    window = AdaptiveLimit(first=64, most=256, doubles=True)
    window.refused(0.5)
    serve(window, 33, 0.02)
    assert window.limit == 33
