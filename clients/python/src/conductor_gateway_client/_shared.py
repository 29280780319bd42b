"""What both clients share: events, errors, the reader of server-sent events, bodies, delays. Nothing here waits."""

from __future__ import annotations

import json
import random
import secrets
from dataclasses import dataclass
from typing import Any, Iterator

#: The states in which a job has ended.
ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "INTERRUPTED"})
#: A longer event is refused: the gateway sends none above 256 KiB, JSON twice as large.
MAX_EVENT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Event:
    """An event of a job: its number from 1, its name, such as ``on_llm_new_token``, its data, the time in seconds since 1970."""

    sequence: int
    name: str
    data: dict[str, Any]
    timestamp: float
    job_id: str


class GatewayError(Exception):
    """The gateway refused a request. ``reason`` is one of docs/errors.md, ``status`` the HTTP status."""

    def __init__(self, status: int, reason: str, message: str, problem: dict[str, Any] | None = None) -> None:
        super().__init__(f"{reason}: {message}")
        self.status, self.reason, self.message = status, reason, message
        self.problem = problem or {}

    @property
    def is_retryable(self) -> bool:
        """Whether nothing was accepted, so that the same request may be sent again."""
        return self.status in (408, 429, 502, 503, 504)


class JobFailed(Exception):
    """A job ended without success."""

    def __init__(self, job_id: str, state: str, reason: str, message: str) -> None:
        super().__init__(f"{state}: {reason}: {message}")
        self.job_id, self.state, self.reason, self.message = job_id, state, reason, message


class StreamCut(Exception):
    """The gateway did not come back. The job may go on; follow it again after ``last_sequence``."""

    def __init__(self, job_id: str, last_sequence: int, cause: str) -> None:
        super().__init__(f"the events of {job_id} were cut after {last_sequence}: {cause}")
        self.job_id, self.last_sequence = job_id, last_sequence


class SseReader:
    """Reads server-sent events from bytes in any pieces (HTML standard, section 9.2)."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yields the events that are complete after these bytes."""
        self._rest += piece
        if len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError("an event is longer than any of the gateway's")
        *lines, self._rest = self._rest.split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if line.startswith("data:"):
                self._data.append(line[5:].removeprefix(" "))
            elif not line and self._data:
                document = json.loads("\n".join(self._data))
                self._data.clear()
                if "event" in document:
                    yield Event(
                        sequence=int(document["sequence"]),
                        name=document["event"],
                        data=document.get("data") or {},
                        timestamp=float(document.get("timestamp") or 0),
                        job_id=document.get("job_id") or "",
                    )


def task_body(
    command: str | None,
    agent_id: str | None,
    input_text: str | None,
    tool: str | None,
    arguments: dict[str, Any] | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Returns the body of a submission, with a key: sent again after a cut it is the same job."""
    given = {"command": command, "agent_id": agent_id, "input_text": input_text, "tool": tool, "arguments": arguments}
    body = {name: value for name, value in {**given, **options}.items() if value is not None}
    body.setdefault("idempotency_key", f"py-{secrets.token_hex(16)}")
    return body


def delay(attempt: int) -> float:
    """Returns the pause before another attempt, in seconds: doubling to 5, spread so that readers do not come at once."""
    return min(5.0, 0.2 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)


def refusal(status: int, body: bytes) -> GatewayError:
    """Returns the error that an answer is."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    text = body[:500].decode("utf-8", "replace")
    return GatewayError(status, problem.get("reason") or f"HTTP_{status}", problem.get("detail") or text, problem)


def outcome(job: dict[str, Any]) -> None:
    """Raises ``JobFailed`` for an ended job that has not succeeded."""
    if job["state"] != "SUCCEEDED":
        error = job.get("error") or {}
        raise JobFailed(job["job_id"], job["state"], error.get("reason", job["state"]), error.get("message", ""))
