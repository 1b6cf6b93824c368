"""The limits of the contract, the same for client and server, so that both refuse alike."""

from __future__ import annotations

import re

NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
QUEUE_NAME_MAX = 100
WORKER_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]+")
WORKER_ID_MAX = 128
BATCH_ID_MAX = 128
BATCH_NAME_MAX = 255
# Of a batch among those of its queue.
WEIGHT_MAX = 100
# Jobs with one limit key that may run at once.
PER_KEY_MAX = 10_000
# Of fair_by and limit_by, and of the key of a row.
COLUMN_KEY_MAX = 255
PART_ID_MAX = 255
REQUEST_ID_MAX = 64
# Of one batch, as far as they are named when it is sealed.
PARTS_MAX = 100_000
PART_ROWS_MAX = 2**62
GENERATION_MAX = 2**31 - 1
PRIORITY_MIN, PRIORITY_MAX = -100, 100
MAX_RETRIES_MAX, MAX_RETRIES_DEFAULT = 100, 3
# What the batch extension says for max_retries=0, since 0 is what is not said.
NO_RETRIES = -1
TIMEOUT_SECONDS_MAX, TIMEOUT_SECONDS_DEFAULT = 86_400, 300
LEASE_SECONDS_MIN, LEASE_SECONDS_MAX, LEASE_SECONDS_DEFAULT = 5, 3_600, 30
DEQUEUE_MAX = 100
IDEMPOTENCY_KEY_MAX = 255
ERROR_MAX = 2_048
# Bytes, as JSON.
PAYLOAD_MAX_BYTES = 1 << 20
TAGS_MAX_BYTES = 64 << 10
SCHEMA_MAX_BYTES = 64 << 10
# Beyond this an integer does not survive the double that a Struct number is.
EXACT_INTEGER_MAX = 2**53
BATCH_IDS_PER_CALL_MAX = 1_000
CHUNK_ROWS_MAX = 10_000
PAGE_JOBS_MAX = 1_000
# Jobs a second that a queue may be limited to; its burst and its jobs in flight.
QUEUE_RATE_MIN, QUEUE_RATE_MAX = 0.00001, 1_000_000.0
QUEUE_JOBS_MAX = 1_000_000
# Messages inside each other: parsers of protobuf give up at 100, and those around a payload count.
MESSAGE_DEPTH_MAX = 96
# One gRPC message, either way; a chunk stays well below it.
MESSAGE_MAX_BYTES = 16 << 20
# What clients take in one message: as many jobs as one call claims, each with its payload, of which
# a byte of JSON is at most three of a Struct.
RESPONSE_MAX_BYTES = 3 * DEQUEUE_MAX * PAYLOAD_MAX_BYTES + MESSAGE_MAX_BYTES
# What a chunk aims at: large enough to make a commit cheap per row, small enough to flow.
CHUNK_TARGET_BYTES = 1 << 20
# Payloads in one chunk that is claimed: clients take messages of 4 MiB unless told otherwise.
CHUNK_BYTES_MAX = 3 << 20
SETTLED_PER_MESSAGE_MAX = 1_000
RETRY_DELAY_SECONDS_MAX = 30 * 24 * 3_600
# How long a job that is throttled may hold its queue.
HOLD_SECONDS_MAX = 24 * 3_600
# Leases of claims without an answer that a claim may name.
UNANSWERED_MAX = 100
