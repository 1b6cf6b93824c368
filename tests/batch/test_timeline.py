"""When jobs came, began and ended: as the server knows it, and as a picture that adds up."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from spooled_pipelines import SpooledClient
from spooled_pipelines.batch.display import timeline_figure
from spooled_pipelines.batch.outcome import timeline
from spooled_pipelines.errors import InvalidArgumentError, SpooledError
from spooled_pipelines.wire import spooled_v1

PNG = b"\x89PNG"


def test_a_timeline_has_each_job_with_its_times(door: Any, queue: str) -> None:
    batch = door.enqueue_batch([{"id": i} for i in range(4)], queue, key="id")
    done, dead, running = door.dequeue(queue, "w", batch_size=3)
    door.complete(done)
    door.fail(dead, "no", retry=False)
    rows = {row["job_id"]: row for row in batch.timeline().to_pylist()}
    assert len(rows) == 4
    for job, status in ((done, "completed"), (dead, "deadletter"), (running, "processing")):
        assert rows[job.id]["status"] == status
        assert rows[job.id]["created_at"] <= rows[job.id]["started_at"]
    ended = rows[done.id]
    took = (ended["completed_at"] - ended["started_at"]).total_seconds()
    assert ended["seconds"] == pytest.approx(took)
    assert rows[running.id]["seconds"] is None
    assert [row["started_at"] for row in rows.values()].count(None) == 1


def test_the_picture_is_one_that_notebooks_show(
    door: Any, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = door.enqueue_batch([{"id": i} for i in range(4)], queue, key="id", name="nightly")
    nothing_ended = batch.plot()
    door.complete(door.dequeue(queue, "w")[0])
    for figure in (nothing_ended, batch.plot()):
        assert figure._repr_png_().startswith(PNG)
        assert "nightly" in figure.get_suptitle()
    from matplotlib import pyplot as plt

    assert plt.get_fignums() == []
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"spooled-pipelines\[plot\]"):
        batch.plot()


def test_the_bands_add_up_to_the_jobs_that_there_were() -> None:
    # In milliseconds: enqueued, began, ended.
    jobs = [
        (spooled_v1.JOB_STATUS_COMPLETED, 0, 100, 400),
        (spooled_v1.JOB_STATUS_COMPLETED, 0, 200, 300),
        (spooled_v1.JOB_STATUS_DEADLETTER, 0, 300, 900),
        # Waits for another try: what its first one took is not what it does now.
        (spooled_v1.JOB_STATUS_PENDING, 0, 100, None),
        (spooled_v1.JOB_STATUS_PROCESSING, 500, 600, None),
        (spooled_v1.JOB_STATUS_CANCELLED, 0, None, 700),
    ]
    collected = timeline.Timeline()
    for status, *times in jobs:
        job = spooled_v1.Job(id="j", status=status)
        for name, time in zip(("created_at", "started_at", "completed_at"), times, strict=True):
            if time is not None:
                getattr(job, name).FromMilliseconds(time)
        collected.add(job)
    grid, bands = timeline_figure.statuses_over_time(collected.reader().read_all())
    assert (grid[0], grid[-1]) == (0, 900)

    def at(milliseconds: int) -> dict[str, int]:
        place = int(grid.searchsorted(milliseconds, "right")) - 1
        return {name: int(counts[place]) for name, counts in bands.items()}

    assert at(0) == {"waiting": 5, "running": 0, "completed": 0, "failed": 0}
    assert at(250) == {"waiting": 3, "running": 2, "completed": 0, "failed": 0}
    assert at(450) == {"waiting": 2, "running": 1, "completed": 2, "failed": 0}
    assert at(650) == {"waiting": 2, "running": 2, "completed": 2, "failed": 0}
    assert at(900) == {"waiting": 1, "running": 1, "completed": 2, "failed": 2}
    created = sum(counts for counts in bands.values())
    assert (created[0], created[-1]) == (5, 6)


def test_without_jobs_there_is_nothing_to_draw() -> None:
    with pytest.raises(InvalidArgumentError, match="no jobs"):
        timeline_figure.draw(timeline.Timeline().reader().read_all(), "batch b_1")


def test_a_plain_server_is_asked_job_by_job(plain_server: Any, queue: str) -> None:
    with SpooledClient(plain_server.address, api_key=plain_server.api_key) as client:
        batch = client.enqueue_batch([{"id": 1}, {"id": 2}], queue, key="id")
        assert batch.timeline().num_rows == 2
        with pytest.raises(SpooledError):
            client.batch(batch.to_dict()).timeline()


def test_a_long_timeline_is_read_some_jobs_at_a_time_and_in_order() -> None:
    collected = timeline.Timeline()
    for number in range(12_000):
        job = spooled_v1.Job(id=f"j{number}", status=spooled_v1.JOB_STATUS_COMPLETED)
        for milliseconds, name in enumerate(("created_at", "started_at", "completed_at")):
            getattr(job, name).FromMilliseconds(number + milliseconds)
        collected.add(job)
    read = [record_batch.to_pydict() for record_batch in collected.reader()]
    assert len(read) > 2
    ids = [job_id for part in read for job_id in part["job_id"]]
    assert ids == [f"j{number}" for number in range(12_000)]
    assert {seconds for part in read for seconds in part["seconds"]} == {0.001}
