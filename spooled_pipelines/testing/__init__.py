"""For tests of programs that use Spooled: a real server in memory whose clock can be moved.

    from spooled_pipelines.testing import run_jobs, server

    def test_a_charge_is_tried_again():
        with server() as client:
            client.enqueue("orders", {"amount": 5})
            [run] = run_jobs(charge, "orders")
            assert run.job.status == "pending"
            client.skip(60)
            [run] = run_jobs(charge, "orders")
            assert run.job.status == "completed"

pytest finds the fixtures `spooled_client` and `spooled_run_jobs` without an import.
"""

from spooled_pipelines.testing.inline import JobRun, run_jobs
from spooled_pipelines.testing.memory import MemoryClient, server

__all__ = ["JobRun", "MemoryClient", "run_jobs", "server"]
