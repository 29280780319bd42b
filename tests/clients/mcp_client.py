"""The official MCP client over both eras of the protocol: every tool listed and called, progress, cancellation."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request

import anyio
from mcp import Client, types

from gateway import Gateway

address, _binary, url = sys.argv[1:4]
THIRTEEN = {
    "backup_agents": {},
    "clear_agent_history": {"agent_id": "SqlExpert_Agent", "confirm": "SqlExpert_Agent"},
    "execute_agent_contextual": {"agent_id": "SqlExpert_Agent", "input_text": "hello", "timeout": 60},
    "execute_agent_stateless": {"agent_id": "SqlExpert_Agent", "input_text": "hello"},
    "get_agent_info": {"agent_id": "SqlExpert_Agent"},
    "get_system_config": {},
    "install_agent_templates": {"template_name": "core"},
    "list_available_agents": {},
    "migrate_storage": {"from_type": "filesystem", "to_type": "filesystem", "path": "moved", "dry_run": True},
    "restore_agents": {"confirm": "newest"},
    "set_environment": {"environment": "test", "project": "one"},
    "start_interactive_session": {"agent_id": "SqlExpert_Agent", "initial_input": "hello"},
    "validate_conductor_system": {},
}


async def every_tool(mode):
    async with Client(url, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(THIRTEEN) | {"send_session_input"} == set(tools), sorted(tools)
        for name, arguments in THIRTEEN.items():
            # The client checks the result against the tool's output schema by itself.
            answer = await client.call_tool(name, arguments)
            assert not answer.is_error, (name, answer)
            assert answer.structured_content is not None and answer.content[0].text, (name, answer)
            if name == "start_interactive_session":
                session_id = answer.structured_content["session_id"]
                ended = await client.call_tool("send_session_input", {"session_id": session_id, "input": None})
                assert ended.structured_content["is_open"] is False, ended
        # The same agents as over gRPC.
        listed = (await client.call_tool("list_available_agents", {})).structured_content["agents"]
        over_grpc = Gateway(address).call("ListAgents").agents
        assert [agent["agent_id"] for agent in listed] == [agent.agent_id for agent in over_grpc]
        assert [agent["description"] for agent in listed] == [agent.description for agent in over_grpc]


async def elicitation(mode):
    asked = []

    async def agree(context, params):
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={"answer": True})

    async with Client(url, mode=mode, elicitation_callback=agree) as client:
        answer = await client.call_tool("clear_agent_history", {"agent_id": "SqlExpert_Agent"})
        assert not answer.is_error and len(asked) == 1, (answer, asked)


def alive_with(text):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if text.encode() in open(f"/proc/{pid}/environ", "rb").read():
                found.append(pid)
        except OSError:
            pass
    return found


async def progress_and_cancellation(mode):
    told = []
    running = anyio.Event()

    async def progress(_progress, _total, message):
        told.append(message)
        if message and "told" in message:
            running.set()

    async with Client(url, mode=mode) as client:
        # The simulated answer is printed word by word, for over ten seconds: a busy machine still cancels it in the middle.
        arguments = {"agent_id": "CodeReviewer_Agent", "input_text": "w " * 250}
        async with anyio.create_task_group() as group:

            async def call():
                await client.call_tool("execute_agent_stateless", arguments, progress_callback=progress)

            group.start_soon(call)
            with anyio.fail_after(20):
                while len(told) < 2:
                    await anyio.sleep(0.02)
            group.cancel_scope.cancel()
    job_id = told[0].split()[-1]
    with anyio.fail_after(20):
        while True:
            job = json.load(urllib.request.urlopen(f"http://{address}/api/v1/jobs/{job_id}"))
            if job["state"] == "CANCELLED" and not alive_with(job_id):
                break
            assert job["state"] in ("RUNNING", "CANCELLED"), job
            await anyio.sleep(0.05)


async def main():
    for mode in ("legacy", "2026-07-28", "auto"):
        await every_tool(mode)
        await elicitation(mode)
        await progress_and_cancellation(mode)


asyncio.run(main())
example = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/examples/mcp_client.py")
printed = subprocess.run([sys.executable, example, url], check=True, capture_output=True, text=True).stdout
assert "done" in printed and "It was told: fn main()" in printed and "… " in printed, printed
