"""The Python client from its built archive, against a gateway that is killed and restarted, and a proxy that gives up."""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_address, binary = sys.argv[1:3]
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(root, "clients/python"))
import synchronous  # noqa: E402

assert synchronous.synchronous() == (synchronous.HERE / "_sync.py").read_text(), "run clients/python/synchronous.py"
place = tempfile.mkdtemp()
pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
subprocess.run([*pip, "wheel", "--no-deps", "-w", place, os.path.join(root, "clients/python")], check=True)
wheel = next(os.path.join(place, name) for name in os.listdir(place) if name.endswith(".whl"))
installed = os.path.join(place, "installed")
subprocess.run([*pip, "install", "--no-deps", "--target", installed, wheel], check=True)
sys.path.insert(0, installed)

from conductor_gateway_client import AsyncClient, Client, GatewayError, JobFailed, StreamCut  # noqa: E402
from conductor_gateway_client._shared import SseReader  # noqa: E402


class Gateway:
    """A gateway on a port that stays, to be killed and started again."""

    def __init__(self):
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.directory = tempfile.mkdtemp()
        self.start()

    def start(self):
        environment = {**os.environ, "AGENT_PROVIDER": "none", "AGENT_AUTODETECT": "off",
                       "XDG_DATA_HOME": self.directory, "CONDUCTOR_SIMULATE_PACE_MS": "30"}
        command = [binary, "serve", "--port", str(self.port), "--mcp-port", "0",
                   "--set", "conductor.pass_environment=[CONDUCTOR_SIMULATE_PACE_MS]"]
        self.process = subprocess.Popen(command, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()


def in_order(events):
    assert [event.sequence for event in events] == list(range(1, len(events) + 1)), events
    assert events[-1].name == "end_of_stream"
    return events


gateway = Gateway()
url = f"http://127.0.0.1:{gateway.port}"
with Client(url) as client:
    # The first request waits until the gateway is there.
    assert "CodeReviewer_Agent" in client.run("list the agents")
    answer = client.run(agent_id="SqlExpert_Agent", input_text="select 1")
    assert "It was told: select 1" in answer, answer
    same = [client.submit("list the agents", idempotency_key="one")["job_id"] for _ in range(2)]
    assert same[0] == same[1]
    try:
        client.run(agent_id="Nope_Agent", input_text="x")
        raise AssertionError("it failed")
    except JobFailed as error:
        assert (error.reason, error.state) == ("AGENT_NOT_FOUND", "FAILED")
    try:
        client.submit(tool="nope")
        raise AssertionError("it was refused")
    except GatewayError as error:
        assert (error.status, error.reason, error.is_retryable) == (400, "UNKNOWN_TOOL", False)
    # A question is answered while the job is followed.
    job_id = client.submit("install all templates")["job_id"]
    events = []
    for event in client.follow(job_id):
        events.append(event)
        if event.name == "input_required":
            client.answer(job_id, event.data["input_id"], "yes")
    in_order(events)
    assert client.job(job_id)["state"] == "SUCCEEDED"
    # Killed in the middle: every event once, and an end that says so.
    job_id = client.submit(agent_id="SqlExpert_Agent", input_text="w " * 200)["job_id"]
    events = []
    for event in client.follow(job_id):
        events.append(event)
        if len(events) == 5:
            gateway.kill()
            threading.Timer(1.0, gateway.start).start()
    in_order(events)
    assert [event.data.get("reason") for event in events if event.name == "error"] == ["INTERRUPTED"]
    # Followed again from behind its end: nothing, and no waiting.
    assert list(client.follow(job_id, after=events[-1].sequence)) == []
    job_id = client.submit(agent_id="SqlExpert_Agent", input_text="w " * 200)["job_id"]
    assert client.cancel(job_id)["state"] == "CANCELLED"


async def asynchronously():
    async with AsyncClient(url) as client:
        answers = await asyncio.gather(*(client.run(agent_id="SqlExpert_Agent", input_text=f"n{n}") for n in range(5)))
        assert all(f"It was told: n{n}" in answer for n, answer in enumerate(answers)), answers
        job_id = (await client.submit(agent_id="SqlExpert_Agent", input_text="w " * 100))["job_id"]
        in_order([event async for event in client.follow(job_id)])


asyncio.run(asynchronously())


class GivesUp(BaseHTTPRequestHandler):
    """A proxy that answers every second request with 502, and cuts each stream after its third event."""

    count = 0

    def do_GET(self):
        type(self).count += 1
        if self.count % 2:
            self.send_error(502)
            return
        import http.client

        upstream = http.client.HTTPConnection("127.0.0.1", gateway.port)
        upstream.request("GET", self.path, headers=dict(self.headers))
        answer = upstream.getresponse()
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers.get("content-type", ""))
        self.end_headers()
        seen = 0
        while seen < 3 and (line := answer.readline()):
            self.wfile.write(line)
            seen += line == b"\n"
        self.close_connection = True

    def log_message(self, *_):
        pass


proxy = ThreadingHTTPServer(("127.0.0.1", 0), GivesUp)
threading.Thread(target=proxy.serve_forever, daemon=True).start()
with Client(url) as client:
    job_id = client.submit("list the agents")["job_id"]
    direct = list(client.follow(job_id))
with Client(f"http://127.0.0.1:{proxy.server_port}") as client:
    assert in_order(list(client.follow(job_id))) == direct
# Gone for good is not ended.
with Client(url, patience=1.0) as client:
    job_id = client.submit(agent_id="SqlExpert_Agent", input_text="w " * 200)["job_id"]
    begun = None
    try:
        for event in client.follow(job_id):
            if begun is None:
                begun = time.monotonic()
                gateway.kill()
        raise AssertionError("it was cut")
    except StreamCut as error:
        assert error.last_sequence >= 1 and error.job_id == job_id
# The reader takes any pieces.
text = b'retry: 1000\nid: 1\ndata: {"event":"a","data":{"x":"\xc3\xa9"},"sequence":1}\r\n\r\n: ping\n\ndata: {"event":"b",\ndata: "sequence":2}\n\n'
for size in (1, 2, 7, len(text)):
    reader = SseReader()
    events = [event for at in range(0, len(text), size) for event in reader.feed(text[at : at + size])]
    assert [(event.name, event.sequence) for event in events] == [("a", 1), ("b", 2)], (size, events)
    assert events[0].data == {"x": "é"}
gateway.process.poll() is None and gateway.kill()
