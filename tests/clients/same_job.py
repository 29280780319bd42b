"""One job, read live and late by gRPC, grpc-web, SSE and `jobs watch`: the same sequences, the same payloads."""

import base64
import http.client
import json
import os
import subprocess
import sys
import threading

from gateway import Gateway, plain

address, binary = sys.argv[1:3]
here = os.path.dirname(os.path.abspath(__file__))
gateway = Gateway(address)
task = {"agent_run": {"agent_id": "CodeReviewer_Agent", "input_text": "a job for many readers ✅ " * 5}}
job_id = gateway.call("SubmitJob", {"task": task}).job.job_id
results = {}


def over_grpc(after):
    events = gateway.events("WatchJob", {"job_id": job_id, "after_sequence": after})
    return [(event.sequence, event.WhichOneof("payload"), plain(getattr(event, event.WhichOneof("payload")))) for event in events]


def over_grpc_web(after):
    image = os.path.join(here, "../contract/v1.binpb")
    command = ["node", os.path.join(here, "grpc_web.mjs"), address, image, job_id, str(after)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    events = [gateway.message("JobEvent").FromString(base64.b64decode(line)) for line in lines]
    return [(event.sequence, event.WhichOneof("payload"), plain(getattr(event, event.WhichOneof("payload")))) for event in events]


def documents(lines):
    return [(line["sequence"], line["event"], line["data"]) for line in map(json.loads, lines)]


def over_sse(after):
    connection = http.client.HTTPConnection(address)
    connection.request("GET", f"/api/v1/stream/{job_id}?after={after}")
    lines = connection.getresponse().read().decode().split("\n")
    return documents(line.removeprefix("data: ") for line in lines if line.startswith("data: "))


def by_watch(after):
    command = [binary, "jobs", "watch", job_id, "--after", str(after), "--json", "--server", f"http://{address}"]
    return documents(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


readers = {"grpc": over_grpc, "grpc-web": over_grpc_web, "sse": over_sse, "watch": by_watch}


def keep(name, after):
    results[name, after, len(results)] = readers[name](after)


live = [threading.Thread(target=keep, args=(name, 0)) for name in readers]
for thread in live:
    thread.start()
for thread in live:
    thread.join()
for name in readers:  # late, whole and from the middle
    keep(name, 0)
    keep(name, 3)
expected = results[next(iter(results))]
assert len(expected) > 20 and expected[-1][1] == "end_of_stream", expected
assert [event[0] for event in expected] == list(range(1, len(expected) + 1))
for (name, after, _), events in results.items():
    assert events == expected[after:], (name, after, [pair for pair in zip(events, expected[after:]) if pair[0] != pair[1]][:1])
assert len(results) == 12, results.keys()
