// The built TypeScript package in a real browser, on a page of another origin, while its gateway is killed and restarted and a proxy
// gives up. Argument: the gateway's binary.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const binary = process.argv[2];
const built = readFileSync(fileURLToPath(import.meta.resolve("@conductor-gateway/client")));
const directory = mkdtempSync(join(tmpdir(), "gateway-"));
const listening = async (server) => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server.address().port;
};
const probe = http.createServer();
const port = await listening(probe);
await new Promise((resolve) => probe.close(resolve));
let gateway;
function start() {
  gateway = spawn(binary, ["serve", "--port", String(port), "--mcp-port", "0", "--set", "conductor.pass_environment=[CONDUCTOR_SIMULATE_PACE_MS]"], {
    cwd: directory, stdio: "ignore",
    env: { ...process.env, AGENT_PROVIDER: "none", AGENT_AUTODETECT: "off", XDG_DATA_HOME: directory, CONDUCTOR_SIMULATE_PACE_MS: "30" },
  });
}
async function kill() {
  const ended = new Promise((resolve) => gateway.once("exit", resolve));
  gateway.kill("SIGKILL");
  await ended;
}
/** Passes on to the gateway; each stream is cut after some of it, and the next request is answered by the proxy itself. */
let streams = 0;
const proxy = http.createServer((request, response) => {
  const isStream = request.method === "GET" && request.url.startsWith("/api/v1/stream/");
  if (isStream && (streams += 1) % 2 === 0) {
    response.writeHead(502, { "content-type": "text/html", "access-control-allow-origin": request.headers.origin ?? "*" });
    return response.end("<h1>502 Bad Gateway</h1>");
  }
  const { host: _, ...headers } = request.headers;
  const passed = http.request({ port, host: "127.0.0.1", method: request.method, path: request.url, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    let sent = 0;
    answer.on("data", (piece) => {
      response.write(piece);
      sent += piece.length;
      if (isStream && streams < 8 && sent > 1500) passed.destroy();
    });
    answer.on("end", () => response.end());
    answer.on("error", () => response.destroy());
  });
  passed.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
  request.pipe(passed);
});
const page_of_another_origin = http.createServer((request, response) => {
  const isModule = request.url === "/client.js";
  response.setHeader("content-type", isModule ? "text/javascript" : "text/html");
  response.end(isModule ? built : "<!doctype html><title>page</title>");
});
const origin = `http://127.0.0.1:${await listening(page_of_another_origin)}`;
const address = `http://127.0.0.1:${port}`;
const behind = `http://127.0.0.1:${await listening(proxy)}`;
start();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.goto(origin);
/** Runs a function in the page with the package's module and the rest as its arguments. */
const inPage = (run, ...given) => page.evaluate(`(async () => (${run})(await import("/client.js"), ...${JSON.stringify(given)}))()`);
const inOrder = (events, state) => {
  assert.deepEqual(events.map((event) => event.sequence), events.map((_, index) => index + 1));
  assert.equal(events.at(-1).data.state, state);
};
const followed = async ({ Client }, url, task) => {
  const client = new Client(url);
  const { job_id } = await client.submit(task);
  const events = [];
  for await (const event of client.follow(job_id)) {
    events.push(event);
    globalThis.seen = events.length;
    if (event.event === "input_required") await client.answer(job_id, event.data.input_id, "yes");
  }
  return events;
};
// The first request waits until the gateway is there.
assert.match(await inPage(({ Client }, url) => new Client(url).run({ command: "list the agents" }), address), /CodeReviewer_Agent/);
assert.deepEqual(
  await inPage(async ({ Client, GatewayError }, url) => {
    const error = await new Client(url).submit({ tool: "nope" }).catch((error) => error);
    return [error instanceof GatewayError, error.reason, error.isRetryable];
  }, address),
  [true, "UNKNOWN_TOOL", false],
);
inOrder(await inPage(followed, address, { command: "install all templates" }), "SUCCEEDED");
const long = { agent_id: "CodeReviewer_Agent", input_text: "word ".repeat(100) };
// Cut by a proxy again and again, and answered by it: each event once.
inOrder(await inPage(followed, behind, long), "SUCCEEDED");
assert.ok(streams >= 8, `${streams} streams`);
// Killed in the middle and back: each event once, and an end that says so.
await page.evaluate(() => { globalThis.seen = 0; });
const interrupted = inPage(followed, address, long);
await page.waitForFunction(() => globalThis.seen > 10);
await kill();
start();
inOrder(await interrupted, "INTERRUPTED");
assert.equal(
  await inPage(async ({ Client }, url, task) => {
    const client = new Client(url);
    return (await client.cancel((await client.submit(task)).job_id)).state;
  }, address, long),
  "CANCELLED",
);
await browser.close();
await kill();
proxy.close();
page_of_another_origin.close();
proxy.closeAllConnections();
page_of_another_origin.closeAllConnections();
