"""The two-step flow with a client library for server-sent events, resumed in the middle."""

import json
import sys

import httpx
from httpx_sse import connect_sse

base = f"http://{sys.argv[1]}"
with httpx.Client(timeout=30) as client:
    body = {"agent_id": "CodeReviewer_Agent", "input_text": "ação ✅ \n\n data: x"}
    accepted = client.post(f"{base}/api/v1/stream-execute", json=body).json()
    url = base + accepted["stream_url"]

    def read(headers, count=None):
        events = []
        with connect_sse(client, "GET", url, headers=headers) as source:
            for event in source.iter_sse():
                document = json.loads(event.data)
                assert event.event == "message" and event.id == str(document["sequence"])
                events.append(document)
                if len(events) == count:
                    break
        return events

    first = read({}, count=2)
    rest = read({"Last-Event-ID": str(first[-1]["sequence"])})
    everything = read({})
    assert first + rest == everything
    assert everything[-1]["event"] == "end_of_stream" and everything[-1]["data"]["state"] == "SUCCEEDED"
    ended = client.get(url, headers={"Last-Event-ID": str(everything[-1]["sequence"])})
    assert ended.status_code == 204
