"""Jobs on their way to workers and back: claims, leases, and what became of the jobs."""

from spooled_pipelines.server.services.leases.chunk_calls import claim_chunks, renew_chunk
from spooled_pipelines.server.services.leases.claiming import Consumer, claim, take_back
from spooled_pipelines.server.services.leases.job_stream import JobStream
from spooled_pipelines.server.services.leases.lease_calls import complete, fail, renew_lease
from spooled_pipelines.server.services.leases.process_stream import process_jobs
from spooled_pipelines.server.services.leases.settle_stream import settle

__all__ = [
    "Consumer",
    "JobStream",
    "claim",
    "claim_chunks",
    "complete",
    "fail",
    "process_jobs",
    "renew_chunk",
    "renew_lease",
    "settle",
    "take_back",
]
