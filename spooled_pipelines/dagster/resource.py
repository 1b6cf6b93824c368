"""The resource that ops and assets enqueue batches with."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from spooled_pipelines.client.sync.client import SpooledClient
from spooled_pipelines.dagster.run_batch import RunBatch, cancelled_if_terminated
from spooled_pipelines.dagster.run_names import RunContext, batch_name, made_by, taken_once
from spooled_pipelines.dagster.schema import column_schema
from spooled_pipelines.orchestration.run_batches import (
    continue_started_over,
    enqueue_for_run,
    run_batch_id,
)
from spooled_pipelines.orchestration.server_settings import server_settings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from spooled_pipelines.batch.options.row_options import OnRerun, PartOptions


class SpooledResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # it is its own value
    """A Spooled server, for ops, assets and sensors.

        SpooledResource(host="jobs.example.com", api_key=dg.EnvVar("SPOOLED_API_KEY"))

    Attributes:
        host, port: of the server.
        api_key: the API key; an `EnvVar`, so that no page shows it.
        tls: ``"auto"`` encrypts except to this machine.
        ca, client_certificate, client_key: paths of PEM files where runs are.
        server_name: the name in the server's certificate, if it is not the host.
        organization: the organization that the key has to be for.
        page: the address of the server's status page, for links.
    """

    host: str = Field(default="localhost", description="The server's name or IP address.")
    port: int = Field(default=50051, description="The server's gRPC port.")
    api_key: str = Field(description="The API key: EnvVar('SPOOLED_API_KEY').", repr=False)
    tls: Literal["auto", "on", "off"] = Field(
        default="auto", description="Encryption; auto: on, except to this machine."
    )
    ca: str | None = Field(default=None, description="Certificates to trust: a PEM file.")
    client_certificate: str | None = Field(
        default=None, description="For mutual TLS: the path of a PEM file."
    )
    client_key: str | None = Field(
        default=None, description="The path of the certificate's key.", repr=False
    )
    server_name: str | None = Field(
        default=None, description="The name in the server's certificate, if it is not the host."
    )
    organization: str | None = Field(
        default=None, description="The organization that the key has to be for."
    )
    page: str | None = Field(
        default=None, description="The address of the server's status page, for links."
    )

    def get_client(self, made_by: str = "") -> SpooledClient:
        """Return a client; use it in a `with`, or close it.

        Args:
            made_by: what makes batches with it, which each of them keeps.

        Raises:
            InvalidArgumentError: a field makes no sense; the message says which and why.
        """
        names = ("ca", "client_certificate", "client_key", "server_name")
        settings = server_settings(
            self.host,
            self.port,
            api_key=self.api_key,
            api_key_source="the resource's api_key",
            address_source="the resource's host and port",
            tls=self.tls,
            certificates={name: getattr(self, name) for name in names},
            organization=self.organization,
            made_by=made_by,
        )
        return SpooledClient(settings)

    def enqueue_batch(
        self,
        context: RunContext,
        data: Any,
        queue_name: str,
        *,
        name: str | None = None,
        on_rerun: OnRerun = "retry_failed",
        cancel_on_termination: bool = True,
        **options: Unpack[PartOptions],
    ) -> RunBatch:
        """Make each row of a table a job; a retry or re-execution finds its batch again.

        Args:
            context: of the op, asset or asset check.
            data: whatever `SpooledClient.enqueue_batch` takes: a DataFrame, a path, rows.
            queue_name: where the jobs go.
            name: of the batch; None: that of the asset's partition, or of the op in the root run.
            on_rerun: ``"retry_failed"`` sends what is missing and retries dead letters;
                ``"resume"`` sends what is missing; ``"fresh"`` starts over, once in each run, and
                cancels what had not started.
            cancel_on_termination: whether what has not started is cancelled if the run is
                terminated while this enqueues, or while the batch is waited for.
            **options: those of `SpooledClient.enqueue_batch`.

        Raises:
            InvalidArgumentError: an option is wrong, or this op has enqueued a batch without
                `name` on this queue already.
            RowsRejectedError: rows cannot be jobs; nothing was sent.
        """
        own_name: AbstractContextManager[None] = nullcontext()
        if name is None:
            name = batch_name(context)
            own_name = taken_once(context, queue_name, name)
        schema = column_schema(data)
        with self.get_client(made_by(context, of_run=on_rerun == "fresh")) as client:
            number = run_batch_id(client, queue_name, name)
            meanwhile = cancelled_if_terminated(self, context, number, cancel_on_termination)
            with own_name, meanwhile:
                record = enqueue_for_run(
                    client,
                    data,
                    queue_name,
                    name,
                    on_rerun=continue_started_over(client, number, on_rerun),
                    log=context.log,
                    **options,
                )
        return RunBatch(self, context, record, schema, cancel_on_termination)

    def batch(self, context: RunContext, record: Mapping[str, Any] | str) -> RunBatch:
        """Return a batch that another op or run enqueued, by its `RunBatch.record` or its id."""
        known = {"batch_id": record} if isinstance(record, str) else dict(record)
        return RunBatch(self, context, known)
