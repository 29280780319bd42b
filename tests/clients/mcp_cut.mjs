// The official TypeScript client behind the proxy of mcp_cut.py.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, calls, atOnce] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const client = new Client({ name: "cut", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
let [next, answered] = [0, 0];
const failed = [];
await Promise.all(
  Array.from({ length: atOnce }, async () => {
    while (next < calls) {
      const number = next++;
      // From 0.1 to 5 seconds: the simulation says a word each 20 ms.
      const input = "word ".repeat(5 + Math.floor((245 * number) / (calls - 1)));
      const call = { name: "execute_agent_stateless", arguments: { agent_id: "CodeReviewer_Agent", input_text: input } };
      try {
        const answer = await client.callTool(call, undefined, { timeout: 60000 });
        if (!answer.isError && answer.content[0].text.includes("word word")) answered += 1;
        else failed.push(JSON.stringify(answer));
      } catch (error) {
        failed.push(String(error));
      }
    }
  }),
);
console.error(failed.slice(0, 3).join("\n"));
console.log(JSON.stringify({ answered }));
process.exit(0);
