"""Every status becomes one error of the tree, with its code, facts, and what to do."""

import pickle

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines import errors
from spooled_pipelines.rpc.error_mapping import Call, error_from_status, refusal_in_stream
from spooled_pipelines.rpc.settings import TLS, ConnectionSettings

KEY = "sp_live_secret0123456789"
SETTINGS = ConnectionSettings("localhost:50051", api_key=KEY, api_key_source="SPOOLED_API_KEY")
CALL = Call("Complete", SETTINGS, timeout=30.0)

BY_STATUS = {
    "CANCELLED": errors.UnavailableError,
    "UNKNOWN": errors.ServerError,
    "INVALID_ARGUMENT": errors.InvalidArgumentError,
    "DEADLINE_EXCEEDED": errors.DeadlineExceededError,
    "NOT_FOUND": errors.NotFoundError,
    "ALREADY_EXISTS": errors.ConflictError,
    "PERMISSION_DENIED": errors.PermissionDeniedError,
    "RESOURCE_EXHAUSTED": errors.QuotaExceededError,
    "FAILED_PRECONDITION": errors.ConflictError,
    "ABORTED": errors.ConflictError,
    "OUT_OF_RANGE": errors.InvalidArgumentError,
    "UNIMPLEMENTED": errors.ServerError,
    "INTERNAL": errors.ServerError,
    "UNAVAILABLE": errors.UnavailableError,
    "DATA_LOSS": errors.ServerError,
    "UNAUTHENTICATED": errors.AuthenticationError,
}


@pytest.mark.parametrize("status", [s for s in grpc.StatusCode if s is not grpc.StatusCode.OK])
def test_every_status_has_its_error(status: grpc.StatusCode) -> None:
    error = error_from_status(status.name, "the server's words", CALL)
    assert type(error) is BY_STATUS[status.name]
    assert error.code == status.name
    assert error.details["method"] == "Complete"
    assert error.details["address"] == "localhost:50051"
    assert error.details["server_message"] == "the server's words"
    assert "localhost:50051" in error.message
    assert "Complete" in error.message


def test_a_status_that_nobody_knows_is_the_servers_fault() -> None:
    assert type(error_from_status("NO_SUCH_STATUS", "?", CALL)) is errors.ServerError


@given(st.sampled_from(sorted(BY_STATUS)), st.text(max_size=200))
def test_no_error_shows_the_key_and_each_survives_pickling(status: str, text: str) -> None:
    error = error_from_status(status, text, CALL, trailing=[("retry-after", "3")])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.__dict__ == error.__dict__
    assert str(copy) == str(error)
    for said in (str(error), repr(error), repr(error.details)):
        assert KEY not in said


@pytest.mark.parametrize(
    "text",
    [
        "lease_id does not match the job's current lease",
        "Lease expired",
        "lease expired at 12:00",
    ],
)
def test_a_lost_lease_is_told_from_other_conflicts(text: str) -> None:
    error = error_from_status("FAILED_PRECONDITION", text, CALL)
    assert type(error) is errors.LeaseLostError
    assert "drop the result" in error.message


@pytest.mark.parametrize("status", ["completed", "deadletter", "cancelled"])
def test_a_settled_job_is_a_conflict_that_names_its_status(status: str) -> None:
    error = error_from_status("FAILED_PRECONDITION", f"Job is already {status}", CALL)
    assert type(error) is errors.ConflictError
    assert error.details["job_status"] == status


@pytest.mark.parametrize(
    ("header", "wait"), [("5", 5.0), ("0.25", 0.25), (b"7", 7.0), ("soon", 1.0), ("-1", 1.0)]
)
def test_a_rate_limit_says_how_long_to_wait(header: str | bytes, wait: float) -> None:
    error = error_from_status(
        "RESOURCE_EXHAUSTED", "too many requests", CALL, trailing=[("retry-after", header)]
    )
    assert type(error) is errors.RateLimitError
    assert error.retry_after == wait


def test_a_quota_is_told_from_a_rate_limit() -> None:
    error = error_from_status(
        "RESOURCE_EXHAUSTED", "daily job limit reached (1000/1000)", CALL, trailing=[]
    )
    assert type(error) is errors.QuotaExceededError
    assert "plan" in error.message


def test_a_message_that_is_too_large_is_the_callers_business() -> None:
    error = error_from_status(
        "RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (17 vs. 16)", CALL
    )
    assert type(error) is errors.InvalidArgumentError


def test_an_answer_that_is_too_large_is_the_servers_business() -> None:
    error = error_from_status(
        "RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (17 vs. 16)", CALL
    )
    assert type(error) is errors.ServerError


def test_a_wrong_key_is_traced_to_where_it_came_from() -> None:
    error = error_from_status("UNAUTHENTICATED", "unknown API key", CALL)
    assert "SPOOLED_API_KEY" in error.message


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("LEASE_EXPIRED", "Lease expired", errors.LeaseLostError),
        ("LEASE_EXPIRED", "gone", errors.LeaseLostError),
        ("FAILED_PRECONDITION", "Job is already completed", errors.ConflictError),
        ("NOT_FOUND", "no such job", errors.NotFoundError),
        ("INVALID_ARGUMENT", "lease_id is required", errors.InvalidArgumentError),
    ],
)
def test_refusals_inside_a_conversation_are_the_same_errors(
    code: str, text: str, kind: type[errors.SpooledError]
) -> None:
    error = refusal_in_stream(code, text, CALL)
    assert type(error) is kind
    assert error.code == code


REFUSED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "


@pytest.mark.parametrize(
    ("text", "reason", "advice"),
    [
        (REFUSED + "Failed to connect to remote host: Connection refused", "unreachable", "serve"),
        (
            REFUSED.replace("ipv4:127.0.0.1", "ipv6:%5B::1%5D") + "Connection refused",
            "unreachable",
            "ipv6:[::1]:1: Connection refused",
        ),
        (REFUSED + "SSL_ERROR_SSL: WRONG_VERSION_NUMBER", "server_without_tls", "tls=False"),
        (REFUSED + "CERTIFICATE_VERIFY_FAILED: self signed", "tls_untrusted", "TLS(ca=...)"),
        (REFUSED + "Hostname Verification Check failed.", "tls_name", "server_name"),
        (REFUSED + "Socket closed", "client_without_tls", "tls=True"),
        (REFUSED + "Failed parsing HTTP/2", "not_grpc", "web server"),
        (
            "connections to all backends failing; last error: ipv4:1.2.3.4:1: backend unhealthy",
            "not_serving",
            "not serving",
        ),
        (
            REFUSED + "connection attempt timed out before receiving SETTINGS frame",
            "silent",
            "firewall",
        ),
        (
            "Stream removed (RST_STREAM (Received RST_STREAM with error code 7))",
            "too_many_calls",
            "max_streams",
        ),
        ("errors resolving nohost:1: Domain name not found", "no_such_host", "no host"),
    ],
)
def test_why_there_is_no_connection_is_told_with_what_to_do(
    text: str, reason: str, advice: str
) -> None:
    error = error_from_status("UNAVAILABLE", text, CALL)
    assert error.reason == reason
    assert error.details["sent"] is False
    assert advice in error.message


def test_a_server_far_away_is_not_one_to_start_here() -> None:
    far = ConnectionSettings("queue.example.org:1", api_key=KEY, tls=TLS())
    error = error_from_status("UNAVAILABLE", REFUSED + "Connection refused", Call("GetJob", far))
    assert "--listen" not in error.message
    assert "SPOOLED_GRPC_ADDRESS" in error.message


def test_a_connection_that_broke_may_have_done_its_work() -> None:
    error = error_from_status("UNAVAILABLE", "Connection reset by peer", CALL)
    assert "sent" not in error.details
