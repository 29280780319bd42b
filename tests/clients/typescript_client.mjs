// The TypeScript client against a gateway that is killed and restarted, and a proxy that gives up.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import http from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, GatewayError, JobFailed, SseReader, StreamCut } from "@conductor-gateway/client";

const binary = process.argv[2];
const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});
const directory = mkdtempSync(join(tmpdir(), "gateway-"));
let gateway;
function start() {
  gateway = spawn(
    binary,
    ["serve", "--port", String(port), "--mcp-port", "0", "--set", "conductor.pass_environment=[CONDUCTOR_SIMULATE_PACE_MS]"],
    {
      cwd: directory,
      stdio: "ignore",
      env: { ...process.env, AGENT_PROVIDER: "none", AGENT_AUTODETECT: "off", XDG_DATA_HOME: directory, CONDUCTOR_SIMULATE_PACE_MS: "30" },
    },
  );
}
function inOrder(events) {
  assert.deepEqual(events.map((event) => event.sequence), events.map((_, index) => index + 1));
  assert.equal(events.at(-1).event, "end_of_stream");
  return events;
}
const all = async (events) => {
  const found = [];
  for await (const event of events) found.push(event);
  return found;
};
start();
const url = `http://127.0.0.1:${port}`;
const client = new Client(url);
// The first request waits until the gateway is there.
assert.match(await client.run({ command: "list the agents" }), /CodeReviewer_Agent/);
assert.match(await client.run({ agent_id: "SqlExpert_Agent", input_text: "select 1" }), /It was told: select 1/);
const keyed = { command: "list the agents", idempotency_key: "one" };
assert.equal((await client.submit(keyed)).job_id, (await client.submit(keyed)).job_id);
await assert.rejects(client.run({ agent_id: "Nope_Agent", input_text: "x" }), (error) => error instanceof JobFailed && error.reason === "AGENT_NOT_FOUND");
await assert.rejects(client.submit({ tool: "nope" }), (error) => error instanceof GatewayError && error.reason === "UNKNOWN_TOOL" && !error.isRetryable);
// A question is answered while the job is followed.
let { job_id } = await client.submit({ command: "install all templates" });
let events = [];
for await (const event of client.follow(job_id)) {
  events.push(event);
  if (event.event === "input_required") await client.answer(job_id, event.data.input_id, "yes");
}
inOrder(events);
assert.equal((await client.job(job_id)).state, "SUCCEEDED");
// Killed in the middle: every event once, and an end that says so.
const slow = { agent_id: "SqlExpert_Agent", input_text: "w ".repeat(200) };
({ job_id } = await client.submit(slow));
events = [];
for await (const event of client.follow(job_id)) {
  events.push(event);
  if (events.length === 5) {
    gateway.kill("SIGKILL");
    setTimeout(start, 1000);
  }
}
inOrder(events);
assert.deepEqual(events.filter((event) => event.event === "error").map((event) => event.data.reason), ["INTERRUPTED"]);
assert.deepEqual(await all(client.follow(job_id, { after: events.at(-1).sequence })), []);
({ job_id } = await client.submit(slow));
assert.equal((await client.cancel(job_id)).state, "CANCELLED");
// A reader that is told to leave leaves.
({ job_id } = await client.submit(slow));
const leaving = new AbortController();
await assert.rejects(
  (async () => {
    for await (const _ of client.follow(job_id, { signal: leaving.signal })) leaving.abort();
  })(),
);
await client.cancel(job_id);
// A proxy that answers every second request with 502, and cuts each stream after its third event.
let count = 0;
const proxy = http.createServer((request, response) => {
  if (++count % 2) return response.writeHead(502).end("<html>Bad Gateway</html>");
  http.get(`${url}${request.url}`, { headers: request.headers }, (upstream) => {
    response.writeHead(upstream.statusCode, upstream.headers);
    let seen = 0;
    upstream.on("data", (piece) => {
      let end = 0;
      for (let at = piece.indexOf("\n\n"); at >= 0 && seen < 3; at = piece.indexOf("\n\n", at + 2)) {
        seen += 1;
        end = at + 2;
      }
      // Cut once it is sent: what is only buffered would never arrive.
      const cut = seen >= 3 ? () => response.destroy() : undefined;
      if (seen >= 3) upstream.destroy();
      response.write(piece.subarray(0, end), cut);
    });
    upstream.on("end", () => response.end());
  });
});
await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
({ job_id } = await client.submit({ command: "list the agents" }));
const direct = await all(client.follow(job_id));
assert.deepEqual(inOrder(await all(new Client(`http://127.0.0.1:${proxy.address().port}`).follow(job_id))), direct);
proxy.closeAllConnections();
proxy.close();
// Gone for good is not ended.
({ job_id } = await client.submit(slow));
await assert.rejects(
  (async () => {
    for await (const _ of new Client(url, { patience: 1000 }).follow(job_id)) gateway.kill("SIGKILL");
  })(),
  (error) => error instanceof StreamCut && error.lastSequence >= 1,
);
// The reader takes any pieces.
const text = 'retry: 1000\nid: 1\ndata: {"event":"a","data":{"x":"é"},"sequence":1}\r\n\r\n: ping\n\ndata: {"event":"b",\ndata: "sequence":2}\n\n';
for (const size of [1, 2, 7, text.length]) {
  const reader = new SseReader();
  const found = [];
  for (let at = 0; at < text.length; at += size) found.push(...reader.feed(text.slice(at, at + size)));
  assert.deepEqual(found.map((event) => [event.event, event.sequence]), [["a", 1], ["b", 2]]);
  assert.deepEqual(found[0].data, { x: "é" });
}
