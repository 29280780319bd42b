"""The asyncio client."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, AsyncIterator

import httpx

from ._shared import ENDED, Event, GatewayError, SseReader, StreamCut, delay, outcome, refusal, task_body


class AsyncClient:
    """A gateway at ``url``. ``patience`` is how long one that does not answer is tried again, in seconds; ``headers`` go with every
    request, such as those that a proxy in front of it wants."""

    def __init__(self, url: str, *, patience: float = 300.0, headers: dict[str, str] | None = None) -> None:
        self._patience = patience
        # Streams are silent between heartbeats of 15 seconds.
        timeout = httpx.Timeout(60.0, connect=5.0)
        self._http = httpx.AsyncClient(base_url=url.rstrip("/"), headers=headers, timeout=timeout, trust_env=False)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _send(self, method: str, path: str, *, is_safe: bool = True, **more: Any) -> httpx.Response:
        """Sends a request. One that may be repeated is, while nothing was accepted or nobody answers."""
        until, attempt = time.monotonic() + self._patience, 0
        while True:
            try:
                answer = await self._http.request(method, path, **more)
                if answer.status_code < 400:
                    return answer
                error = refusal(answer.status_code, answer.content)
                # A job that failed is an answer, and no failure of the way to it.
                if not (is_safe and error.is_retryable) or "job_id" in error.problem or time.monotonic() >= until:
                    raise error
                pause = float(answer.headers.get("retry-after") or 0) or delay(attempt)
            except httpx.TransportError:
                if not is_safe or time.monotonic() >= until:
                    raise
                pause = delay(attempt)
            attempt += 1
            await asyncio.sleep(min(pause, 30.0))

    async def submit(
        self,
        command: str | None = None,
        *,
        agent_id: str | None = None,
        input_text: str | None = None,
        tool: str | None = None,
        arguments: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Submits a task and returns ``job_id`` and ``stream_url``. Options are those of docs/protocol.md, such as
        ``conversation_id``, ``labels``, ``timeout_seconds``, ``idempotency_key``."""
        body = task_body(command, agent_id, input_text, tool, arguments, options)
        answer: dict[str, Any] = (await self._send("POST", "/api/v1/stream-execute", json=body)).json()
        return answer

    async def follow(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yields every event after ``after`` once, over cuts and restarts of the gateway, and returns when the job has ended.

        Raises ``GatewayError`` if the gateway refuses, ``StreamCut`` if it does not come back."""
        since, attempt = time.monotonic(), 0
        while True:
            cause = "the stream ended before the job"
            try:
                headers = {"accept": "text/event-stream", "last-event-id": str(after)}
                async with self._http.stream("GET", f"/api/v1/stream/{job_id}", headers=headers) as answer:
                    if answer.status_code == 204:
                        return
                    if answer.status_code >= 400:
                        error = refusal(answer.status_code, await answer.aread())
                        if not error.is_retryable:
                            raise error
                        cause = str(error)
                    else:
                        reader = SseReader()
                        async for piece in answer.aiter_bytes():
                            # A heartbeat counts too; a proxy that only opens streams does not.
                            since = time.monotonic()
                            for event in reader.feed(piece):
                                if event.sequence <= after:
                                    continue
                                attempt, after = 0, event.sequence
                                yield event
                                if event.name == "end_of_stream":
                                    return
            except httpx.TransportError as error:
                cause = str(error) or type(error).__name__
            if time.monotonic() - since > self._patience:
                raise StreamCut(job_id, after, cause)
            await asyncio.sleep(delay(attempt))
            attempt += 1

    async def job(self, job_id: str) -> dict[str, Any]:
        """Returns a job as it is now."""
        answer: dict[str, Any] = (await self._send("GET", f"/api/v1/jobs/{job_id}")).json()
        return answer

    async def result(self, job_id: str) -> str:
        """Returns the whole answer of a job that has succeeded. Raises ``JobFailed`` for one that has not."""
        job = await self.job(job_id)
        if job["state"] in ENDED:
            outcome(job)
        return (await self._send("GET", f"/api/v1/jobs/{job_id}/result")).content.decode("utf-8")

    async def run(self, command: str | None = None, **task: Any) -> str:
        """Submits a task, waits for its end, and returns its answer. Raises ``JobFailed``."""
        job_id = (await self.submit(command, **task))["job_id"]
        async for _ in self.follow(job_id):
            pass
        return await self.result(job_id)

    async def answer(self, job_id: str, input_id: str, value: Any) -> dict[str, Any]:
        """Answers the open question of a job: the ``input_required`` event has its id."""
        body = {"input_id": input_id, "value": value}
        # Sent again it might answer the next question; the id says which one is meant, so that it does not.
        answer: dict[str, Any] = (await self._send("POST", f"/api/v1/jobs/{job_id}/input", json=body)).json()
        return answer

    async def cancel(self, job_id: str, *, wait_seconds: int = 30) -> dict[str, Any]:
        """Cancels a job and waits for its end."""
        body = {"wait_seconds": wait_seconds}
        answer: dict[str, Any] = (await self._send("POST", f"/api/v1/jobs/{job_id}/cancel", json=body)).json()
        return answer


__all__ = ["AsyncClient", "GatewayError"]
