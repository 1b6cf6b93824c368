"""The decision alone: nothing is sent and nobody waits."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spooled_pipelines import errors
from spooled_pipelines.rpc.retry import RetryPolicy, backoff, delay_before_retry

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1000),
    initial_seconds=st.floats(0, 100),
    max_seconds=st.floats(0, 1000),
    multiplier=st.floats(1, 100),
    jitter=st.floats(0, 1),
)
chances = st.floats(0, 1, exclude_max=True)
attempts = st.integers(1, 5000)

broken = errors.UnavailableError("gone", code="UNAVAILABLE")
never_sent = errors.UnavailableError("no server", code="UNAVAILABLE", details={"sent": False})
misconfigured = errors.UnavailableError(
    "untrusted", code="UNAVAILABLE", details={"sent": False, "permanent": True}
)

NEVER_REPEATED = [
    errors.InvalidArgumentError("x"),
    errors.AuthenticationError("x"),
    errors.PermissionDeniedError("x"),
    errors.NotFoundError("x"),
    errors.ConflictError("x"),
    errors.LeaseLostError("x"),
    errors.QuotaExceededError("x"),
    errors.DeadlineExceededError("x"),
    errors.ServerError("x"),
    misconfigured,
]


@given(policies, attempts, chances)
def test_a_wait_is_never_negative_and_never_above_the_longest(
    policy: RetryPolicy, attempt: int, chance: float
) -> None:
    assert 0 <= backoff(policy, attempt, random=lambda: chance) <= policy.max_seconds


@given(policies, st.integers(1, 50))
def test_waits_grow_but_for_chance(policy: RetryPolicy, attempt: int) -> None:
    middle = [backoff(policy, n, random=lambda: 0.5) for n in (attempt, attempt + 1)]
    assert middle[0] <= middle[1]


@given(policies, chances)
def test_the_first_wait_stays_within_the_jitter(policy: RetryPolicy, chance: float) -> None:
    assume(policy.initial_seconds * 2 < policy.max_seconds)
    share = policy.initial_seconds * policy.jitter
    delay = backoff(policy, 1, random=lambda: chance)
    assert policy.initial_seconds - share <= delay + 1e-9
    assert delay <= policy.initial_seconds + share + 1e-9


@given(policies, attempts, st.booleans())
def test_there_are_never_more_tries_than_allowed(
    policy: RetryPolicy, attempt: int, repeatable: bool
) -> None:
    assume(attempt >= policy.max_attempts)
    for error in (broken, never_sent, errors.RateLimitError("x", retry_after=1)):
        assert delay_before_retry(policy, error, attempt, repeatable=repeatable) is None


@given(attempts)
def test_a_broken_connection_repeats_only_what_is_repeatable(attempt: int) -> None:
    policy = RetryPolicy(max_attempts=attempt + 1)
    assert delay_before_retry(policy, broken, attempt, repeatable=False) is None
    assert delay_before_retry(policy, broken, attempt, repeatable=True) is not None


@given(attempts, st.booleans())
def test_what_never_reached_a_server_is_always_tried_again(attempt: int, repeatable: bool) -> None:
    policy = RetryPolicy(max_attempts=attempt + 1)
    assert delay_before_retry(policy, never_sent, attempt, repeatable=repeatable) is not None


@given(policies, st.floats(0, 3600), chances, st.booleans())
def test_a_rate_limit_is_waited_out_and_never_cut_short(
    policy: RetryPolicy, retry_after: float, chance: float, repeatable: bool
) -> None:
    assume(policy.max_attempts > 1)
    error = errors.RateLimitError("slow down", retry_after=retry_after)
    delay = delay_before_retry(policy, error, 1, repeatable=repeatable, random=lambda: chance)
    assert delay is not None
    assert delay >= retry_after


@given(policies, st.sampled_from([broken, errors.RateLimitError("x", retry_after=2.0)]), attempts)
def test_nobody_waits_beyond_the_deadline(
    policy: RetryPolicy, error: errors.SpooledError, attempt: int
) -> None:
    for time_left in (-1.0, 0.0, 0.5, 2.0, 5.0):
        delay = delay_before_retry(policy, error, attempt, repeatable=True, time_left=time_left)
        assert delay is None or delay < time_left


@pytest.mark.parametrize("error", NEVER_REPEATED, ids=lambda error: type(error).__name__)
def test_what_trying_again_cannot_change_is_not_tried_again(error: errors.SpooledError) -> None:
    assert delay_before_retry(RetryPolicy(), error, 1, repeatable=True) is None
