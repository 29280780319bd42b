// The official TypeScript client: `npm install @modelcontextprotocol/sdk`, then
// `node mcp_client.mjs http://localhost:8006/mcp`.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const url = new URL(process.argv[2] ?? "http://localhost:8006/mcp");
const client = new Client({ name: "example", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(url));
for (const tool of (await client.listTools()).tools) {
  console.log(`${tool.name}: ${tool.title}`);
}
const call = {
  name: "execute_agent_stateless",
  arguments: { agent_id: "CodeReviewer_Agent", input_text: "fn main() { loop {} }" },
};
const answer = await client.callTool(call, undefined, {
  onprogress: (progress) => console.log(`… ${progress.message}`),
  timeout: 600_000,
  resetTimeoutOnProgress: true,
});
console.log(answer.isError ? "failed" : "done", answer.content[0].text);
await client.close();
