"""Around the page of Prefect: a Prefect server, the block, and a worker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from tests.support.doc_setup import client_in, working, write_files
from tests.support.prefect_server import prefect_server


@contextmanager
def page(page: Any) -> Iterator[None]:
    write_files()
    host, _, port = page.address.rpartition(":")
    page.replace['host="localhost", port=50051, api_key="sp_live_..."'] = (
        f"host={host!r}, port={port}, api_key={page.api_key!r}"
    )
    page.replace['.save("production")'] = '.save("production", overwrite=True)'
    with prefect_server(), client_in(page) as client, working(client, "orders"):
        from spooled_pipelines.prefect import SpooledCredentials

        # The page's first flow is shown before the block is made.
        SpooledCredentials(host=host, port=int(port), api_key=SecretStr(page.api_key)).save(
            "production"
        )
        yield


@contextmanager
def waited_flow(page: Any) -> Iterator[None]:
    yield
    page.names["nightly"]("orders.parquet")


@contextmanager
def suspended_flow(page: Any) -> Iterator[None]:
    from prefect import get_client
    from prefect.exceptions import Pause
    from prefect.flow_engine import run_flow

    from spooled_pipelines.prefect import resume_settled_flows

    yield
    nightly = page.names["nightly"]
    with get_client(sync_client=True) as api:
        made = api.create_deployment(
            api.create_flow(nightly),
            f"d-{uuid.uuid4().hex[:8]}",
            parameters={"path": "orders.parquet"},
        )
        run = api.create_flow_run_from_deployment(made)
        try:
            run_flow(nightly, flow_run=run)
        except Pause:
            while not resume_settled_flows():
                pass
            run_flow(nightly, flow_run=api.read_flow_run(run.id))
