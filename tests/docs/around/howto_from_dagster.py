"""Around the page of Dagster: an instance, a worker, and somebody who materializes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from tests.support.doc_setup import client_in, working, write_files


@contextmanager
def page(page: Any) -> Iterator[None]:
    write_files()
    os.environ["DAGSTER_HOME"] = str(Path.cwd())
    host, _, port = page.address.rpartition(":")
    where = f"host={host!r}, port={port}"
    page.replace['host="localhost", port=50051'] = where
    page.replace["SpooledResource(api_key="] = f"SpooledResource({where}, api_key="
    with client_in(page) as client, working(client, "orders"):
        yield


@contextmanager
def asset(page: Any) -> Iterator[None]:
    yield
    definitions: dg.Definitions = page.names["definitions"]
    assert definitions.resolve_implicit_global_asset_job_def().execute_in_process().success


@contextmanager
def sensor(page: Any) -> Iterator[None]:
    yield
    definitions: dg.Definitions = page.names["definitions"]
    with client_in(page) as client:
        (batch, *_) = client.batches("orders")
    job = definitions.resolve_job_def("report_job")
    assert job.execute_in_process(tags={"spooled/batch_id": batch.batch_id}).success
