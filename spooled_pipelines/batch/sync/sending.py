# Made from spooled_pipelines/batch/aio/sending.py by `make proto`: change that, not this.
"""What every upload has around it, be it of a whole table or of a part."""

from __future__ import annotations

import dataclasses
import time

from spooled_pipelines.batch import notes
from spooled_pipelines.batch.ledger import Ledger, write_ledger
from spooled_pipelines.batch.progress import Progress
from spooled_pipelines.batch.staging.prepare import Prepared
from spooled_pipelines.batch.sync.upload import ChunkUpload, SingleUpload
from spooled_pipelines.errors import RowsRejectedError
from spooled_pipelines.rpc import tracing
from spooled_pipelines.rpc.sync.connection import Calls
from spooled_pipelines.rpc.sync.runtime import in_thread


def traced(prepared: Prepared) -> Prepared:
    """With where it is traced among its jobs' tags."""
    # After the keys were made: the same rows with another trace are the same jobs.
    tags = tracing.with_context(prepared.constants.tags)
    constants = dataclasses.replace(prepared.constants, tags=tags)
    return dataclasses.replace(prepared, constants=constants)


def run_upload(
    calls: Calls,
    upload: ChunkUpload | SingleUpload,
    prepared: Prepared,
    ledger: Ledger,
    shown: Progress,
) -> None:
    """Send every row; the ledger then has those that cannot be jobs, too.

    Raises:
        RowsRejectedError: the server refused rows, and nobody said to go on without them.
    """
    began = time.perf_counter()
    try:
        upload.run()
        calls.rows_per_second = prepared.sendable / (time.perf_counter() - began)
    except BaseException as error:
        # Also where a user breaks off: what is there so far, and how to go on, is worth a line.
        notes.add_resume_note(error, prepared, ledger)
        ledger.close()
        raise
    finally:
        shown.close()
    if ledger.rejected and not prepared.skips_rejected:
        raise _refused_by_server(prepared, ledger)
    ledger.add_rejected(prepared.rejections)
    if prepared.ledger is not None:
        in_thread(write_ledger, ledger.reader(), prepared.ledger)


def _refused_by_server(prepared: Prepared, ledger: Ledger) -> RowsRejectedError:
    count, acknowledged = ledger.rejected, ledger.acknowledged
    prepared.rejections.add(list(ledger.rejected_rows()))
    ledger.close()
    return prepared.rejections.error(
        f"the server refused {count} of {acknowledged} rows",
        f"The other {acknowledged - count} are jobs; batch {prepared.batch_id} is not sealed.",
        'Correct these rows and call again, or pass on_rejected="skip".',
    )
