"""What is known of a batch's jobs, where nobody but the client knows which they are."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.batch.outcome.v1_stats import JobStatusTable
from spooled_pipelines.types import JobStatus

IDS = st.text("abc", min_size=1, max_size=2)


@given(
    st.lists(IDS, max_size=12),
    st.lists(st.tuples(IDS, st.sampled_from(list(JobStatus))), max_size=20),
)
def test_it_is_what_a_dict_in_memory_would_be(
    ids: list[str], learned: list[tuple[str, JobStatus]]
) -> None:
    known = JobStatusTable(iter(ids))
    model = dict.fromkeys(ids, JobStatus.PENDING)
    assert known.total == len(model)
    for job_id, status in learned:
        known.learn(job_id, status)
        if job_id in model:
            model[job_id] = status
        assert +known.counts() == Counter(model.values())
        assert list(known.open()) == sorted(one for one in model if not model[one].settled)


def test_what_settles_while_all_are_looked_at_neither_hides_nor_repeats_another() -> None:
    ids = [f"{number:05}" for number in range(3_500)]
    known = JobStatusTable(ids)
    seen = []
    for job_id in known.open():
        seen.append(job_id)
        known.learn(job_id, JobStatus.COMPLETED)
    assert seen == ids
    assert known.counts()[JobStatus.COMPLETED] == len(ids)
    assert list(known.open()) == []
