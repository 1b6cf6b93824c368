"""A server with its page in this process, and visitors who sign in to it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx

from spooled_pipelines.wire import batch_v1 as batch
from spooled_pipelines.wire import keys_v1 as keys
from spooled_pipelines.wire import spooled_v1 as spooled
from tests.support.wire import KEY, Wire, struct

SESSION = "spooled-session"
SCRIPT = "<script>alert('x')</script>"
# Right-to-left override, a null character, markup, and no place to break a line.
HOSTILE = f"\u202egnp.exe\u202c \0 \"'>{SCRIPT}<img src=x onerror=alert(1)> " + "x" * 1_500


class PagedWire(Wire):
    """See `Wire`; `url` is the page's."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, **{"http": "127.0.0.1:0", **settings})

    @property
    def url(self) -> str:
        url = self.server.dashboard_url
        assert url is not None
        return url

    @contextlib.asynccontextmanager
    async def visitor(self, key: str | None = KEY, **options: Any) -> AsyncIterator[Visitor]:
        """Somebody with a browser; signed in with this key unless it is None."""
        async with httpx.AsyncClient(base_url=self.url, timeout=20, **options) as client:
            visitor = Visitor(client)
            if key is not None:
                answer = await visitor.sign_in(key)
                assert answer.status_code == 303, answer.text
            yield visitor

    async def new_key(self, role: str, *queues: str) -> keys.CreateKeyResponse:
        return await self.call(keys.CreateKeyRequest(name="test", role=role, queues=queues))

    async def fill_batch(
        self, batch_id: str, *names: str, queue_name: str = "q", name: str = "", key: str = KEY
    ) -> None:
        """A sealed batch with a job for each name."""
        opening = batch.OpenBatch(
            batch_id=batch_id, queue_name=queue_name, upload_id="u", name=name
        )
        chunk = batch.JobChunk(
            payloads=[struct(name=name).SerializeToString() for name in names],
            idempotency_keys=names,
        )
        async with self.conversation("EnqueueBatch", key=key) as upload:
            await upload.write(batch.EnqueueBatchRequest(open=opening))
            await upload.read()
            if names:
                await upload.write(batch.EnqueueBatchRequest(chunk=chunk))
                await upload.read()
        await self.call(batch.SealBatchRequest(batch_id=batch_id), key=key)

    async def kill_one(self, error: str, queue_name: str = "q") -> str:
        """The next job of the queue becomes a dead letter; its id."""
        job = await self.claim(queue_name)
        failed = spooled.FailRequest(
            job_id=job.id, worker_id="w", lease_id=job.lease_id, error=error, retry=False
        )
        await self.call(failed)
        return str(job.id)


class Visitor:
    """A client that keeps cookies and follows nothing by itself."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get(path, headers=named)

    async def page(self, path: str) -> str:
        answer = await self.get(path)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.text

    async def part(self, path: str, name: str = "live") -> str:
        """What htmx would swap in."""
        answer = await self.get(path, hx_request="true", hx_target=name)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def sign_in(self, key: str, wanted: str = "/") -> httpx.Response:
        token = token_of(await self.page(f"/sign-in?next={wanted}"))
        form = {"token": token, "key": key, "next": wanted}
        return await self.client.post("/sign-in", data=form)

    async def act(self, path: str, **form: str) -> httpx.Response:
        """Send a form with the token that every page of this session has."""
        token = token_of(await self.page("/queues"))
        return await self.client.post(path, data={"token": token, **form})


def token_of(text: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', text)
    assert found, text
    return found[1]


class Reader(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag in ("td", "th", "dt", "dd"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def words(self) -> str:
        """The text with every run of blanks as one."""
        return " ".join(self.text.split())


def read(page: str) -> str:
    """The text of a page."""
    return Reader(page).words()
