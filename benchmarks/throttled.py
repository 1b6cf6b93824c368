"""What comes through to an HTTP server that answers 429 above its limit, from two workers."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.measure import show
from benchmarks.servers import API_KEY, server
from spooled_pipelines import Job, connect
from spooled_pipelines.token_bucket import TokenBucket
from spooled_pipelines.worker import Throttled, Worker

_LIMIT = 50
_WORKERS, _CONCURRENCY = 2, 20
# Until the rate is found; then it is measured.
_FINDING_SECONDS, _SECONDS = 15, 60
_QUEUE = "throttled"


def throttled() -> bool:
    """Two workers of twenty handlers each, without a word about the limit anywhere."""
    with _api() as (url, answers), server() as address, connect(address, api_key=API_KEY) as client:
        rows = [{"n": n} for n in range(2 * _LIMIT * (_FINDING_SECONDS + _SECONDS))]
        batch = client.enqueue_batch(rows, _QUEUE, key="n", max_retries=0)

        def call(_: Job) -> None:
            try:
                urllib.request.urlopen(url, timeout=10).close()
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 429:
                    raise
                raise Throttled from None

        workers = [Worker(client, _QUEUE, call, concurrency=_CONCURRENCY) for _ in range(_WORKERS)]
        threads = [threading.Thread(target=worker.run) for worker in workers]
        for thread in threads:
            thread.start()
        time.sleep(_FINDING_SECONDS)
        before, began = Counter(answers), time.perf_counter()
        time.sleep(_SECONDS)
        seconds = time.perf_counter() - began
        done = (answers[200] - before[200]) / seconds
        refused = (answers[429] - before[429]) / seconds
        (queue,) = client.queues()
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join()
        dead = batch.stats().deadletter
    rate = queue.throttle.jobs_per_second if queue.throttle else float("inf")
    kept = show("of the limit of 50 a second comes through, at least", done / _LIMIT, at_least=0.9)
    print(f"            {done:.1f} done and {refused:.2f} refused a second; {dead} dead; ", end="")
    print(f"{answers[429]} refused in all; the queue hands out {rate:.1f} a second now", flush=True)
    return kept and not dead


@contextmanager
def _api() -> Iterator[tuple[str, Counter[int]]]:
    """Serve with the limit; yield the address, and the answers so far by status."""
    bucket, lock = TokenBucket(_LIMIT, _LIMIT, time.monotonic()), threading.Lock()
    answers: Counter[int] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                is_accepted = bucket.available(time.monotonic()) >= 1
                bucket.take(int(is_accepted))
                status = 200 if is_accepted else 429
                answers[status] += 1
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as api:
        serving = threading.Thread(target=api.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{api.server_port}/", answers
        finally:
            api.shutdown()
            serving.join()
