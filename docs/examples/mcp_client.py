"""The official Python client: `pip install mcp`, then `python mcp_client.py http://localhost:8006/mcp`."""

import asyncio
import sys

from mcp import Client


async def told(progress, total, message):
    print(f"… {message}")


async def main(url):
    async with Client(url) as client:
        for tool in (await client.list_tools()).tools:
            print(f"{tool.name}: {tool.title}")
        arguments = {"agent_id": "CodeReviewer_Agent", "input_text": "fn main() { loop {} }"}
        answer = await client.call_tool("execute_agent_stateless", arguments, progress_callback=told)
        print("failed" if answer.is_error else "done", answer.content[0].text, sep="\n")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8006/mcp"))
