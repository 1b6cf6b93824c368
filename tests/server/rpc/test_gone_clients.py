"""A refusal that nobody waits for any more is no fault of the server's."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest

from spooled_pipelines.server.core.errors import not_found
from spooled_pipelines.server.rpc.handlers import _refuse
from spooled_pipelines.server.telemetry import rpc_call
from tests.support.wire import method_named


async def test_a_client_that_leaves_before_it_is_refused_is_no_error() -> None:
    """Found by the long run of test_hostile.py. Which comes first, the end of the call or the
    refusal, is gRPC's to decide, so that its answer is all that is put in place of it here."""

    class LeftMeanwhile:
        async def abort(self, *_: Any) -> None:
            raise grpc.aio.InternalError("Failed execute_batch")

    call = rpc_call.start(method_named("ListBatchJobs"), ())
    # As it is where gRPC hears of the end in time: nothing goes to the log.
    with pytest.raises(asyncio.CancelledError):
        await _refuse(cast("Any", LeftMeanwhile()), call, not_found("there is no batch 'b'"))
