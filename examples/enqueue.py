"""Put jobs on a queue: one now, one later, one that exists once however often it is sent."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from example_server import example_address

from spooled_pipelines import connect

QUEUE = "example-enqueue"


def main() -> None:
    with example_address() as address, connect(address) as client:
        now = client.enqueue(
            QUEUE,
            {"to": "ada@example.org", "subject": "Welcome"},
            priority=5,
            max_retries=3,
            tags={"team": "onboarding"},
        )
        print("enqueued:", now.created)

        tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
        later = client.enqueue(QUEUE, {"to": "ada@example.org"}, scheduled_at=tomorrow)
        print("status of the one for tomorrow:", client.get_job(later.job_id).status)

        # The key says what the job is: a second enqueue finds it instead of making another.
        for _ in range(2):
            invoice = client.enqueue(
                QUEUE, {"invoice": 1042}, idempotency_key=f"invoice-1042-{now.job_id}"
            )
            print("invoice 1042 created:", invoice.created)


if __name__ == "__main__":
    main()
