"""Which request an answer belongs to, for any conversation whose answers come in order."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines import Job, errors
from spooled_pipelines.client.process_responses import (
    JobCompleted,
    JobFailed,
    LeaseRenewed,
    PendingRequests,
    RequestRejected,
)
from spooled_pipelines.rpc.error_mapping import Call, refusal_in_stream
from spooled_pipelines.rpc.settings import ConnectionSettings
from spooled_pipelines.wire import spooled_v1
from spooled_pipelines.wire.well_known import Timestamp

CALL = Call("ProcessJobs", ConnectionSettings("localhost:1", api_key="k"))
REFUSALS = ["LEASE_EXPIRED", "FAILED_PRECONDITION", "NOT_FOUND", "INVALID_ARGUMENT"]


def explain(code: str, text: str) -> errors.SpooledError:
    return refusal_in_stream(code, text, CALL)


def answer_to(kind: str) -> spooled_v1.ProcessResponse:
    if kind == "complete":
        return spooled_v1.ProcessResponse(complete=spooled_v1.CompleteResponse(success=True))
    if kind == "fail":
        return spooled_v1.ProcessResponse(fail=spooled_v1.FailResponse(success=True))
    renewed = spooled_v1.RenewLeaseResponse(success=True, new_expires_at=Timestamp(seconds=9))
    return spooled_v1.ProcessResponse(renew_lease=renewed)


def refusal(code: str) -> spooled_v1.ProcessResponse:
    return spooled_v1.ProcessResponse(error=spooled_v1.ErrorResponse(code=code, message="no"))


KINDS = {"complete": JobCompleted, "fail": JobFailed, "renew_lease": LeaseRenewed}
# What is asked, and the code that it is refused with (None: it is done); jobs of a dequeue.
requests = st.one_of(
    st.tuples(st.just("dequeue"), st.integers(0, 3)),
    st.tuples(st.sampled_from(sorted(KINDS)), st.none() | st.sampled_from(REFUSALS)),
)


@given(st.lists(requests), st.randoms(use_true_random=False))
def test_every_answer_finds_its_job(asked: list[Any], chance: random.Random) -> None:
    """Requests run ahead of their answers by any distance; the answers keep their order."""
    unanswered = PendingRequests()
    todo = [(number, kind, outcome) for number, (kind, outcome) in enumerate(asked)]
    waiting: list[tuple[Any, ...]] = []
    while todo or waiting:
        if todo and (not waiting or chance.random() < 0.6):
            number, kind, outcome = todo.pop(0)
            unanswered.ask(kind, None if kind == "dequeue" else f"job-{number}")
            waiting.append((number, kind, outcome))
            continue
        number, kind, outcome = waiting.pop(0)
        if kind == "dequeue":
            for _ in range(outcome):
                job = unanswered.take(
                    spooled_v1.ProcessResponse(job=spooled_v1.Job(id="j")), explain
                )
                assert isinstance(job, Job)
            continue
        message = answer_to(kind) if outcome is None else refusal(outcome)
        answer = unanswered.take(message, explain)
        if outcome is None:
            assert isinstance(answer, KINDS[kind])
        else:
            assert isinstance(answer, RequestRejected)
            assert answer.request == kind
        assert answer.job_id == f"job-{number}"
    assert len(unanswered) == 0


def test_a_worker_that_never_ends_remembers_only_what_is_open() -> None:
    unanswered = PendingRequests()
    for number in range(1000):
        unanswered.ask("dequeue", None)
        unanswered.ask("dequeue", None)
        unanswered.ask("complete", f"job-{number}")
        unanswered.take(answer_to("complete"), explain)
    assert len(unanswered._asked) <= 1


def test_a_refused_dequeue_is_told_as_one() -> None:
    unanswered = PendingRequests()
    unanswered.ask("dequeue", None)
    unanswered.ask("complete", "job-1")
    answer = unanswered.take(refusal("PERMISSION_DENIED"), explain)
    assert isinstance(answer, RequestRejected)
    assert (answer.request, answer.job_id) == ("dequeue", None)
    assert isinstance(answer.error, errors.PermissionDeniedError)
    assert unanswered.take(answer_to("complete"), explain) == JobCompleted("job-1")


def test_an_answer_that_says_no_without_an_error_is_a_refusal() -> None:
    unanswered = PendingRequests()
    unanswered.ask("complete", "job-1")
    message = spooled_v1.ProcessResponse(complete=spooled_v1.CompleteResponse(success=False))
    answer = unanswered.take(message, explain)
    assert isinstance(answer, RequestRejected)
    assert (answer.request, answer.job_id) == ("complete", "job-1")
    assert "complete job-1" in answer.error.message


def test_a_refusal_that_nobody_asked_for_names_no_job() -> None:
    answer = PendingRequests().take(refusal("NOT_FOUND"), explain)
    assert isinstance(answer, RequestRejected)
    assert (answer.request, answer.job_id) == (None, None)


def test_what_a_newer_server_may_say_is_passed_over() -> None:
    assert PendingRequests().take(spooled_v1.ProcessResponse(), explain) is None
