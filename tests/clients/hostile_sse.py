"""Hostile output, read by parsers of others: every one sees the same events as the JSON of the job's own listing.

Parsers: httpx-sse (Python), eventsource-parser and eventsource (Node), and the standard library's splitting as a control.
"""

import http.client
import json
import os
import subprocess
import sys

import httpx
from httpx_sse import connect_sse

address, job_ids = sys.argv[1], sys.argv[4:]
here = os.path.dirname(os.path.abspath(__file__))


def by_httpx(url):
    with httpx.Client(timeout=60) as client, connect_sse(client, "GET", url) as source:
        return [[event.id, event.data] for event in source.iter_sse()]


def by_node(url, parser):
    command = ["node", os.path.join(here, "hostile_sse.mjs"), url, parser]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def by_hand(path):
    connection = http.client.HTTPConnection(address)
    connection.request("GET", path)
    blocks = connection.getresponse().read().decode().split("\n\n")
    events = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in fields:
            events.append([fields["id"], fields["data"]])
    return events


for job_id in job_ids:
    path = f"/api/v1/stream/{job_id}"
    expected = by_hand(path)
    documents = [json.loads(data) for _, data in expected]
    assert [event["sequence"] for event in documents] == list(range(1, len(documents) + 1))
    assert documents[-1]["event"] == "end_of_stream"
    url = f"http://{address}{path}"
    readings = {"httpx-sse": by_httpx(url)}
    for parser in ["eventsource-parser", "eventsource"]:
        readings[parser] = by_node(url, parser)
    for parser, events in readings.items():
        assert events == expected, f"{parser} read {len(events)} of {len(expected)} events of {job_id} otherwise"
