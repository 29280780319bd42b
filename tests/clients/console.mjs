// The console in a real browser: every feature is clicked, every state is looked at. Arguments: the gateway's binary, the address of a
// gateway with the mean engine, a directory for the pictures.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [binary, mean, pictures, only = ""] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
mkdirSync(pictures, { recursive: true });

const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});
const directory = mkdtempSync(join(tmpdir(), "gateway-"));
const url = `http://127.0.0.1:${port}`;
let gateway;
async function start() {
  gateway = spawn(binary, ["serve", "--port", String(port), "--mcp-port", "0", "--set", "conductor.pass_environment=[CONDUCTOR_SIMULATE_PACE_MS]"], {
    cwd: directory, stdio: "ignore",
    env: { ...process.env, AGENT_PROVIDER: "none", AGENT_AUTODETECT: "off", XDG_DATA_HOME: directory, CONDUCTOR_SIMULATE_PACE_MS: "40" },
  });
  for (;;) {
    const answer = await fetch(`${url}/health/ready`).catch(() => null);
    if (answer?.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
async function kill() {
  const ended = new Promise((resolve) => gateway.once("exit", resolve));
  gateway.kill("SIGKILL");
  await ended;
}
const api = async (path, body, base = url) => {
  const answer = await fetch(base + path, body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  return answer.json();
};
const submit = async (body, base = url) => (await api("/api/v1/stream-execute", body, base)).job_id;

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, permissions: ["clipboard-read", "clipboard-write"] });
context.setDefaultTimeout(20_000);
const violations = [];
/** What no page of these tests may ever do. */
async function open(address = url, into = context) {
  const page = await into.newPage();
  page.on("pageerror", (error) => violations.push(`${page.url()}: ${error.stack}`));
  page.on("dialog", (dialog) => { violations.push(`a dialog: ${dialog.message()}`); void dialog.dismiss(); });
  page.on("console", (message) => {
    // A gateway that is killed refuses connections, and the browser says so by itself.
    if (message.type() === "error" && !/Failed to load resource|net::ERR/.test(message.text())) violations.push(message.text());
  });
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`)));
  await page.goto(address);
  return page;
}
const picture = (page, name) => page.screenshot({ path: join(pictures, `${name}.png`) });
const jobOf = (page) => new URL(page.url()).hash.split("/")[2].split("?")[0];
/** Faults that axe calls serious or critical. */
async function accessible(page, what) {
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`).catch(async () => {
    // The page's own policy forbids foreign scripts; the tool is let in beside it.
    const session = await page.context().newCDPSession(page);
    await session.send("Runtime.enable");
    const { result } = await session.send("Runtime.evaluate", { expression: `${axe}; axe.run(document, { resultTypes: ["violations"] })`, awaitPromise: true, returnByValue: true });
    return result.value;
  });
  const faults = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
  assert.deepEqual(faults.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" | ").slice(0, 400)}`), [], what);
}

const tests = {
  async "a newcomer reaches an answer without a model"() {
    const page = await open();
    await page.locator("h1", { hasText: "What is to be done?" }).waitFor();
    assert.ok(await page.getByText("There is no model").isVisible(), "why there is none");
    assert.ok(await page.getByText("export OPENAI_API_KEY").isVisible(), "the lines that give one");
    await page.getByRole("link", { name: "SqlExpert_Agent" }).waitFor();
    await accessible(page, "first page");
    await picture(page, "start");
    const examples = await page.locator("button.chip").allTextContents();
    assert.equal(examples.length, 3);
    for (const example of examples) {
      await page.goto(`${url}/#/`);
      await page.getByRole("button", { name: example, exact: true }).click();
      await page.locator(".row.result").waitFor();
      assert.equal(await page.locator(".run-head .state").textContent(), "succeeded", example);
    }
    await page.close();
  },

  async "an agent run is seen as it happens, and by several"() {
    const page = await open(`${url}/#/agents/CodeReviewer_Agent`);
    await page.fill("#input", "fn main() { loop {} } ".repeat(3));
    await accessible(page, "form of an agent");
    await page.getByRole("button", { name: "Run agent" }).click();
    await page.locator(".run-head .state.running").waitFor();
    await page.locator(".row.call.works .block").first().waitFor();
    const partial = await page.locator(".row.call .block").last().textContent();
    await picture(page, "running");
    const other = await open(page.url());
    await other.locator(".row.result").waitFor();
    await page.locator(".row.result").waitFor();
    const answer = await page.locator(".row.result").textContent();
    assert.ok(partial.length < answer.length, "it was seen before its end");
    assert.equal(await other.locator(".row.result .markdown").textContent(), await page.locator(".row.result .markdown").textContent());
    assert.ok((await page.locator("#right").textContent()).includes("bundled"));
    await page.locator(".row.call summary").click();
    await page.locator(".row.call").getByText("Arguments", { exact: true }).waitFor();
    await accessible(page, "a run");
    await picture(page, "answer");
    // Its own address survives a reload, and one event of it has an address, too.
    await page.reload();
    await page.locator(".row.result").waitFor();
    await page.goto(`${page.url()}@3`);
    await page.locator(".row.here").waitFor();
    await page.getByRole("button", { name: "Run again" }).click();
    await page.waitForURL((now) => !now.hash.includes(jobOf(other)));
    await page.locator(".row.result").waitFor();
    await other.close();
    await page.close();
  },

  async "a tool's form comes from its schema"() {
    const page = await open(`${url}/#/tools`);
    await page.locator('a[href="#/tools/execute_agent_stateless"]').click();
    await page.locator("fieldset.destroys").waitFor();
    await accessible(page, "form of a tool");
    await picture(page, "tool");
    await page.getByLabel("agent id").fill("SqlExpert_Agent");
    await page.getByLabel("input text").fill("select 1");
    await page.getByText("Optional").click();
    await page.getByLabel("timeout").fill("30");
    await page.getByLabel("output format").selectOption({ index: 1 });
    // What is copied is what would be run, and works where it is pasted.
    await page.getByText("Copy as").click();
    await page.getByRole("button", { name: "curl" }).click();
    const curl = await page.evaluate(() => navigator.clipboard.readText());
    const pasted = JSON.parse(execFileSync("sh", ["-c", curl], { encoding: "utf8" }));
    assert.equal(pasted.status, "started", curl);
    await page.getByRole("button", { name: "Command line" }).click();
    const line = await page.evaluate(() => navigator.clipboard.readText());
    const printed = execFileSync("sh", ["-c", line.replace("conductor-gateway", binary)], { encoding: "utf8", cwd: directory, stdio: ["ignore", "pipe", "ignore"] });
    assert.ok(printed.includes("select 1"), `${line}: ${printed}`);
    for (const [name, part] of [["gRPC", "grpcurl"], ["Python", "conductor_gateway_client"], ["TypeScript", "@conductor-gateway/client"]]) {
      await page.getByRole("button", { name, exact: true }).click();
      const text = await page.evaluate(() => navigator.clipboard.readText());
      assert.ok(text.includes(part) && text.includes("SqlExpert_Agent"), text);
    }
    await page.getByRole("button", { name: "Run an agent once" }).click();
    await page.locator(".row.result").waitFor();
    const job = await api(`/api/v1/jobs/${jobOf(page)}`);
    assert.deepEqual(job.task.tool_call.arguments, { agent_id: "SqlExpert_Agent", input_text: "select 1", timeout: 30, output_format: "text" });
    await page.close();
  },

  async "a question is answered with a button, and one is cancelled"() {
    const page = await open();
    for (const [button, state] of [["no", "declined"], ["yes", "succeeded"]]) {
      await page.goto(`${url}/#/`);
      await page.fill("#command", "install all templates");
      await page.keyboard.press("Control+Enter");
      await page.locator(".card.asks").waitFor();
      assert.equal(await page.locator(".run-head .state").textContent(), "waiting for you");
      if (button === "no") {
        await accessible(page, "a question");
        await picture(page, "question");
      }
      await page.locator(".card.asks").getByRole("button", { name: button, exact: true }).click();
      await page.locator(`.run-head .state.${state}`).waitFor();
      if (button === "no") await page.getByText("nothing was installed").waitFor();
      assert.ok(await page.locator(".card.asks").isHidden());
    }
    await page.goto(`${url}/#/`);
    await page.fill("#command", "install all templates");
    await page.keyboard.press("Control+Enter");
    await page.locator(".card.asks").waitFor();
    // One letter ends nothing by mistake.
    await page.keyboard.press("Escape");
    await page.keyboard.press("c");
    await page.locator("dialog[open]").getByRole("button", { name: "Keep it" }).click();
    await page.getByRole("button", { name: "Cancel job" }).click();
    await page.locator("dialog[open]").getByRole("button", { name: "Cancel job" }).click();
    await page.locator(".run-head .state.cancelled").waitFor();
    await page.getByRole("button", { name: "Delete job" }).click();
    await page.locator("dialog[open]").getByRole("button", { name: "Delete job" }).click();
    await page.waitForURL(`${url}/#/`);
    await page.close();
  },

  async "yesterday's job is found, by its text, its state, and the keys"() {
    const one = await submit({ command: "list the agents", labels: { kind: "rare" } });
    await submit({ command: "frobnicate the whatsit" });
    const page = await open();
    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    await page.keyboard.type("whatsit");
    await page.waitForURL(/text=whatsit/);
    await page.locator(".jobs li").nth(0).getByText("frobnicate").waitFor();
    await page.waitForFunction(() => document.querySelectorAll(".jobs li").length === 1);
    await page.reload();
    await page.waitForFunction(() => document.querySelectorAll(".jobs li").length === 1);
    await page.keyboard.press("Escape");
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await page.locator(".row.error").waitFor();
    await page.getByText("COMMAND_NOT_UNDERSTOOD").waitFor();
    await accessible(page, "a failure");
    await picture(page, "failure");
    const help = page.getByRole("link", { name: "What this means" });
    assert.equal((await fetch(await help.evaluate((link) => link.href))).status, 200);
    await page.goto(`${url}/#/?label=kind:rare`);
    await page.waitForFunction((id) => document.querySelector(".jobs a")?.dataset.job === id && document.querySelectorAll(".jobs li").length === 1, one);
    await page.keyboard.press("Escape");
    await page.keyboard.press("?");
    await page.locator("dialog#keys[open]").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("dialog#keys[open]").waitFor({ state: "detached" }).catch(() => {});
    await page.close();
  },

  async "a session is talked through in the page"() {
    const page = await open(`${url}/#/tools/start_interactive_session`);
    await page.getByLabel("agent id").fill("SqlExpert_Agent");
    await page.getByText(/^Optional/).click();
    await page.getByLabel("initial input").fill("first words");
    await page.locator("main form button.first").click();
    const answer = page.locator(".card.asks textarea");
    await answer.waitFor();
    assert.match(await page.locator("#asking").textContent(), /1 waits for you/);
    await answer.fill("half of it");
    await page.goto(`${url}/#/agents`);
    await page.goBack();
    assert.equal(await page.locator(".card.asks textarea").inputValue(), "half of it", "what was typed is kept");
    for (const words of ["second words", "third words"]) {
      await answer.fill(words);
      await page.keyboard.press("Control+Enter");
      await page.getByText(`You answered: ${words}`).waitFor();
      await page.locator(".row.call .block.grows").getByText(words).waitFor();
      await page.waitForFunction(() => document.activeElement?.matches(".card.asks textarea"));
    }
    assert.ok(await answer.isVisible());
    const box = await page.locator(".card.asks").boundingBox();
    assert.ok(box.y + box.height <= 901, "the question is in view");
    await accessible(page, "a session");
    await page.getByRole("button", { name: "End the session" }).click();
    await page.locator(".row.result").waitFor();
    await page.close();
  },

  async "what was typed is kept, what was deleted is gone, what failed can be changed"() {
    const page = await open();
    await page.fill("#command", "a long thought");
    await page.goto(`${url}/#/tools`);
    await page.goBack();
    assert.equal(await page.inputValue("#command"), "a long thought");
    await page.reload();
    assert.equal(await page.inputValue("#command"), "a long thought");
    const labelled = await submit({ command: "frobnicate it", labels: { team: "billing" }, timeout_seconds: 77 });
    await page.goto(`${url}/#/jobs/${labelled}?text=billing`);
    await page.locator(".row.error").waitFor();
    await page.waitForFunction(() => document.querySelectorAll(".jobs li").length === 1);
    assert.ok((await page.locator("#right").textContent()).includes("Time limit1 min 17 s"));
    await page.getByText("Copy task as").click();
    for (const name of ["curl", "gRPC", "Python", "TypeScript", "Command line"]) {
      await page.locator("details.copy").first().getByRole("button", { name, exact: true }).click();
      const text = await page.evaluate(() => navigator.clipboard.readText());
      assert.ok(text.includes("billing") && text.includes("77"), `${name}: ${text}`);
    }
    // The filter goes along.
    await page.getByRole("link", { name: "Agents", exact: true }).click();
    await page.waitForURL(/agents\?text=billing/);
    await page.goBack();
    await page.getByRole("button", { name: "Change and run" }).click();
    await page.waitForFunction(() => document.getElementById("command")?.value === "frobnicate it");
    // Deleted in another window.
    const other = await open(`${url}/#/jobs/${labelled}`);
    await page.goto(`${url}/#/jobs/${labelled}`);
    await page.locator(".row.error").waitFor();
    await other.getByRole("button", { name: "Delete job" }).click();
    await other.locator("dialog[open]").getByRole("button", { name: "Delete job" }).click();
    await other.waitForURL(`${url}/#/`);
    await page.getByRole("button", { name: "Delete job" }).click();
    await page.locator("dialog[open]").getByRole("button", { name: "Delete job" }).click();
    await page.getByText("There is no such job").waitFor();
    assert.equal(await page.locator(`.jobs a[data-job="${labelled}"]`).count(), 0);
    await other.close();
    await page.close();
  },

  async "conversations are listed, continued and deleted"() {
    const page = await open(`${url}/#/agents/SqlExpert_Agent`);
    await page.fill("#input", "remember 42");
    await page.getByText("Optional (1)").click();
    await page.fill("#conversation", "the-answer");
    await page.getByRole("button", { name: "Run agent" }).click();
    await page.locator(".row.result").waitFor();
    await page.goto(`${url}/#/conversations`);
    await page.getByRole("cell", { name: "the-answer", exact: true }).waitFor();
    await accessible(page, "conversations");
    await page.getByRole("button", { name: "Delete the-answer" }).click();
    await page.locator("dialog[open]").getByRole("button", { name: "Delete conversation" }).click();
    await page.getByRole("cell", { name: "the-answer", exact: true }).waitFor({ state: "detached" });
    await page.close();
  },

  async "the operator sees what runs, what waits, what asks"() {
    const asking = await submit({ command: "install all templates" });
    const page = await open(`${url}/#/gateway`);
    await page.getByText("Your questions that are open (1)").waitFor();
    await page.getByText("ready", { exact: true }).waitFor();
    await accessible(page, "the gateway");
    await picture(page, "gateway");
    await page.locator("main").getByRole("link", { name: "install all templates" }).click();
    await page.locator(".card.asks").getByRole("button", { name: "no", exact: true }).click();
    assert.equal(jobOf(page), asking);
    await page.close();
  },

  async "the reference shows every operation, and tries them"() {
    const page = await open(`${url}/docs`);
    const { paths } = await api("/openapi.json");
    const operations = Object.values(paths).flatMap((methods) => Object.values(methods).map((one) => one.operationId));
    await page.locator("#health").waitFor();
    for (const id of operations) assert.equal(await page.locator(`section#${id}`).count(), 1, id);
    await accessible(page, "the reference");
    await picture(page, "reference");
    const list = page.locator("section#listAgents");
    await list.getByText("Try it").click();
    await list.getByLabel("page size").fill("2");
    await list.getByRole("button", { name: "Send" }).click();
    await list.getByText("BugHunter_Agent").waitFor();
    await list.getByRole("button", { name: "Copy as curl" }).click();
    const curl = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(JSON.parse(execFileSync("sh", ["-c", curl], { encoding: "utf8" })).agents.length, 2, curl);
    const run = page.locator("section#submitJob");
    await run.getByText("Try it").click();
    await run.getByLabel("command", { exact: true }).fill("list the agents");
    await run.getByRole("button", { name: "Send" }).click();
    await run.getByText("stream_url").waitFor();
    await page.goto(`${url}/docs#Job`);
    await page.locator("details#Job[open]").waitFor();
    await page.goto(`${url}/docs/grpc`);
    await page.getByText("WatchJobs").first().waitFor();
    await accessible(page, "the gRPC contract");
    await page.close();
  },

  async "a hidden tab is told of ends and questions"() {
    await context.grantPermissions(["notifications"], { origin: url });
    const page = await open();
    await page.evaluate(() => {
      globalThis.shown = [];
      globalThis.Notification = class { static permission = "granted"; constructor(title, options) { globalThis.shown.push([title, options.body]); } close() {} };
      Object.defineProperty(document, "hidden", { get: () => true });
    });
    const job = await submit({ command: "install all templates" });
    await page.waitForFunction(() => globalThis.shown.length === 1);
    assert.match(await page.title(), /^\(1\) /);
    const { question } = await api(`/api/v1/jobs/${job}`);
    await api(`/api/v1/jobs/${job}/input`, { input_id: question.input_id, value: "no" });
    await page.waitForFunction(() => globalThis.shown.length === 2);
    const shown = await page.evaluate(() => globalThis.shown);
    assert.match(shown[0][1], /asks: Install all templates/);
    await page.close();
  },

  async "a killed gateway that comes back costs no event, and no reload"() {
    const page = await open(`${url}/#/agents/CodeReviewer_Agent`);
    await page.fill("#input", "word ".repeat(200));
    await page.getByRole("button", { name: "Run agent" }).click();
    await page.locator(".row.call.works .block").first().waitFor();
    await page.evaluate(() => { globalThis.isTheSame = true; });
    const job = jobOf(page);
    await kill();
    await page.locator(".connection.lost").waitFor();
    await picture(page, "lost");
    await start();
    await page.locator(".run-head .state.interrupted").waitFor();
    await page.locator(".connection.back").waitFor({ state: "attached" });
    await page.locator(".row.error").getByText("INTERRUPTED", { exact: true }).waitFor();
    assert.ok(await page.evaluate(() => globalThis.isTheSame), "without a reload");
    const events = (await (await fetch(`${url}/api/v1/stream/${job}`)).text()).split("\n").filter((line) => line.startsWith("data: ")).map((line) => JSON.parse(line.slice(6)));
    const output = events.filter((event) => event.event === "on_tool_output").map((event) => event.data.text).join("");
    const block = page.getByLabel("Output");
    // A call folds by itself when it has ended; what the reader has opened stays open.
    while (!(await block.waitFor({ timeout: 1000 }).then(() => true, () => false))) await page.locator(".row.call summary").click();
    assert.equal((await block.textContent()).replace(/\s+/g, " "), output.replace(/\s+/g, " "), "each event once");
    assert.ok((await page.locator("#right").textContent()).includes(`Events${events.length}`), "all of them");
    await page.close();
  },

  async "twenty tabs share what a browser gives one origin"() {
    const jobs = [];
    for (let index = 0; index < 20; index += 1) jobs.push(await submit({ agent_id: "SqlExpert_Agent", input_text: `tab ${index}` }));
    const pages = await Promise.all(jobs.map((job) => open(`${url}/#/jobs/${job}`)));
    await Promise.all(pages.map((page, index) => page.locator(".row.result").getByText(`tab ${index}`).first().waitFor()));
    await Promise.all(pages.map((page) => page.close()));
    // More jobs that go on than one stream takes: the last one is followed like the first. And a tab that crashes is missed.
    const many = [];
    for (let index = 0; index < 70; index += 1) many.push(await submit({ agent_id: "CodeReviewer_Agent", input_text: "word ".repeat(500) }));
    const page = await open();
    const ends = page.evaluate(async (many) => {
      const { Hub } = await import("./console/hub.js");
      const hub = new Hub(new URL(".", location.href).href);
      /** @type {Promise<string>[]} */
      const ends = many.map((jobId) => new Promise((resolve) => {
        const tab = { post: (message) => { for (const event of message.events ?? []) if (event.event === "end_of_stream") resolve(event.data.state); }, jobId: null, last: 0 };
        hub.add(tab);
        hub.hear(tab, { type: "follow", jobId, last: 0 });
      }));
      globalThis.areFollowed = true;
      const last = await ends[ends.length - 1];
      const rest = await Promise.all(ends);
      const lost = { post: () => {}, jobId: null, last: 0 };
      hub.add(lost);
      let crash;
      const held = navigator.locks.request("lost", () => new Promise((resolve) => { crash = resolve; }));
      while (!crash) await new Promise((resolve) => setTimeout(resolve, 5));
      hub.hear(lost, { type: "alive", name: "lost" });
      const before = hub.tabs.has(lost);
      crash();
      await held;
      while (hub.tabs.has(lost)) await new Promise((resolve) => setTimeout(resolve, 5));
      return { last, rest: rest.length, before };
    }, many);
    await page.waitForFunction(() => globalThis.areFollowed);
    await api(`/api/v1/jobs/${many[69]}/cancel`, {});
    for (const job of many) await api(`/api/v1/jobs/${job}/cancel`, {});
    const late = new Promise((_, reject) => setTimeout(reject, 30_000, new Error("not all ends were told")).unref());
    assert.deepEqual(await Promise.race([ends, late]), { last: "CANCELLED", rest: 70, before: true });
    await page.close();
  },

  async "nothing that an agent says becomes markup, script or a link"() {
    const evils = hostile();
    assert.ok(evils.length >= 300);
    const page = await open();
    const shape = () => page.evaluate(() => ({
      scripts: document.scripts.length,
      foreign: document.querySelectorAll("img, iframe, object, embed, video, audio, svg script, math, form[action], base, meta[http-equiv], main a[href^='javascript'], main a[href^='data'], [onerror], [onload]").length,
      links: [...document.querySelectorAll("a[href]")].filter((link) => new URL(link.href).origin !== location.origin).length,
      isRun: globalThis.evil === true,
      wide: document.documentElement.scrollWidth > innerWidth,
    }));
    const clean = { scripts: 1, foreign: 0, links: 0, isRun: false, wide: false };
    // As a command, in an agent's answer, as raw output of a process, as a label, as a tool's arguments.
    for (let from = 0; from < evils.length; from += 25) {
      // One input is at most 131,000 bytes, and no text of a process holds a null character.
      const some = evils.slice(from, from + 25).map((evil) => evil.toWellFormed().replaceAll("\0", "").slice(0, 2500));
      const jobs = [
        [url, await submit({ agent_id: "SqlExpert_Agent", input_text: some.join("\n"), labels: { evil: some[0].slice(0, 60) } })],
        [url, await submit({ command: `x ${some[1]}` })],
        [mean, await submit({ agent_id: "Mean_Agent", input_text: `say-raw ${some.join("\n")}` }, mean)],
      ];
      for (const [base, job] of jobs) {
        assert.ok(job, "it was taken");
        await page.goto(`${base}/#/jobs/${job}`);
        await page.locator(".row.result, .row.error").first().waitFor();
        for (const summary of await page.locator(".row summary").all()) await summary.click();
        assert.deepEqual(await shape(), clean, JSON.stringify(some).slice(0, 2000));
        const text = await page.evaluate(() => document.body.innerText);
        assert.ok(!/[\u0000-\u0008\u000b-\u001f\u202a-\u202e\u2066-\u2069\u200e\u200f]/u.test(text), "hidden characters are marks");
      }
    }
    await page.close();
  },

  async "ten thousand events and a long answer stay light"() {
    const page = await open(`${mean}/`);
    // Processor time of each task: by the clock, whatever else the machine does would be the page's.
    await browser.startTracing(page, { categories: ["toplevel"] });
    const session = await page.context().newCDPSession(page);
    await session.send("Performance.enable");
    const nodes = [];
    const look = async () => nodes.push(await page.evaluate(() => document.querySelectorAll("*").length));
    for (const input of ["drip 10000 1", "long 10000000"]) {
      const job = await submit({ agent_id: "Mean_Agent", input_text: input }, mean);
      await page.goto(`${mean}/#/jobs/${job}`);
      const result = page.locator(".row.result");
      while (!(await result.count())) {
        await look();
        await page.waitForTimeout(100);
      }
      await look();
      if (input.startsWith("drip")) assert.ok(Number((await page.locator("#right").textContent()).match(/Events([\d,]+)/)[1].replaceAll(",", "")) > 5000);
      else {
        await page.getByRole("button", { name: /^Show more/ }).first().click();
        assert.ok(await page.getByRole("link", { name: "Whole answer" }).isVisible());
      }
      await look();
    }
    const { traceEvents } = JSON.parse(await browser.stopTracing());
    const pageThreads = new Set(traceEvents.filter((one) => one.name === "thread_name" && one.args.name === "CrRendererMain").map((one) => `${one.pid} ${one.tid}`));
    const tasks = traceEvents.filter((one) => one.name === "ThreadControllerImpl::RunTask" && pageThreads.has(`${one.pid} ${one.tid}`));
    assert.ok(tasks.length > 1000, "the page's tasks are known");
    const long = tasks.map((one) => one.tdur / 1000).sort((a, b) => b - a);
    // Rows by the thousand: a window of them is in the document.
    const many = await page.evaluate(async () => {
      const { Run } = await import("./console/model.js");
      const { Timeline } = await import("./console/timeline.js");
      const main = document.getElementById("main");
      const run = new Run("job_x");
      const timeline = new Timeline(run, main);
      main.replaceChildren(timeline.element);
      let sequence = 0;
      const event = (name, data) => run.apply({ event: name, data, sequence: (sequence += 1), timestamp: 1 });
      for (let call = 0; call < 5000; call += 1) {
        event("on_tool_start", { tool_call_id: `c${call}`, tool: "x", arguments: { path: `/${call}` } });
        event("on_tool_end", { tool_call_id: `c${call}`, tool: "x", result: { n: call }, duration_ms: 1 });
      }
      timeline.draw();
      const atEnd = main.innerText.includes("/4999");
      for (let step = 0; step < 300; step += 1) timeline.move(-20);
      return { rows: run.rows.length, drawn: document.querySelectorAll(".row").length, atEnd, atStart: main.innerText.includes("/0") };
    });
    assert.deepEqual(many, { rows: 5000, drawn: 30, atEnd: true, atStart: true });
    // What a terminal shows of a line that was written anew, at a cost that grows with its length only.
    const written = await page.evaluate(async () => {
      const { plain } = await import("./console/text.js");
      return ["10%\r100%\r\ndone\r", `${"x".repeat(2_000_000)}\ry`, "a\rb\n\rc\r\r"].map(plain);
    });
    assert.deepEqual(written, ["100%\ndone", "y", "b\nc"]);
    await session.send("HeapProfiler.collectGarbage");
    const { metrics } = await session.send("Performance.getMetrics");
    const heap = metrics.find((metric) => metric.name === "JSHeapUsedSize").value / 2 ** 20;
    console.log(`most elements ${Math.max(...nodes)}, heap ${heap.toFixed(1)} MiB, longest tasks ${long.slice(0, 3).map((ms) => ms.toFixed(0))} ms`);
    assert.ok(Math.max(...nodes) <= 1000, `${Math.max(...nodes)} elements`);
    assert.ok(heap <= 64, `${heap} MiB`);
    assert.ok(long.filter((ms) => ms > 50).length === 0, `tasks of ${long.slice(0, 8)} ms of processor time`);
    await page.close();
  },

  async "dark, and on a phone"() {
    const job = await submit({ command: "install all templates" });
    for (const [name, options] of [["dark", { colorScheme: "dark", viewport: { width: 1440, height: 900 } }], ["middle", { viewport: { width: 1024, height: 768 } }], ["phone", { viewport: { width: 390, height: 844 }, hasTouch: true }], ["phone-dark", { colorScheme: "dark", viewport: { width: 390, height: 844 } }]]) {
      const other = await browser.newContext(options);
      const page = await open(`${url}/#/jobs/${job}`, other);
      await page.locator(".card.asks").waitFor();
      await accessible(page, name);
      await picture(page, `question-${name}`);
      assert.ok(!(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)), "nothing is wider than the screen");
      await page.goto(`${url}/#/`);
      await page.locator("a.chip").first().waitFor();
      await accessible(page, name);
      await picture(page, `start-${name}`);
      if (name.startsWith("phone")) {
        await page.getByRole("button", { name: "Jobs" }).click();
        await page.locator(".jobs a").first().waitFor();
        await picture(page, `jobs-${name}`);
        await page.locator(`.jobs a[data-job="${job}"]`).click();
        await page.locator(".card.asks").waitFor();
      }
      await other.close();
    }
    const { question } = await api(`/api/v1/jobs/${job}`);
    await api(`/api/v1/jobs/${job}/input`, { input_id: question.input_id, value: "no" });
  },
};

/** Outputs that want to be more than text. */
function hostile() {
  const script = "globalThis.evil=true";
  const tags = ["img src=x onerror", "svg onload", "body onload", "iframe onload", "video src=x onerror", "details open ontoggle", "input autofocus onfocus", "marquee onstart", "math><mtext><img src=x onerror", "object data=x onerror", "embed src=x onload", "style onload", "link rel=stylesheet href=x onerror", "audio src=x onerror", "select autofocus onfocus"];
  const wraps = [(x) => x, (x) => `</pre>${x}`, (x) => `</code></pre></div>${x}`, (x) => `"'>${x}`, (x) => `\`\`\`\n${x}\n\`\`\``, (x) => `# ${x}`, (x) => `- ${x}`, (x) => `**${x}**`, (x) => `<!--${x}-->`, (x) => `<![CDATA[${x}]]>`, (x) => `${x}`.toUpperCase(), (x) => x.replaceAll("<", "\\u003c"), (x) => x.replaceAll("<", "&lt;"), (x) => `\u001b[31m${x}\u001b[0m`, (x) => `${x}\r${x}`, (x) => `1. ${x}\n   ${x}`, (x) => `> ${x}`];
  const evils = tags.flatMap((tag) => wraps.map((wrap) => wrap(`<${tag}="${script}">`)));
  for (const scheme of ["javascript:", "JaVaScRiPt:", " javascript:", "java\tscript:", "data:text/html,", "vbscript:", "file:///etc/passwd", "https://evil.example/"]) {
    evils.push(`[click](${scheme}${script})`, `<a href="${scheme}${script}">click</a>`, `![x](${scheme}${script})`, `<${scheme}${script}>`, `\u001b]8;;${scheme}${script}\u0007click\u001b]8;;\u0007`);
  }
  evils.push(`<script>${script}</script>`, `<script src="data:text/javascript,${script}"></script>`, "<base href='https://evil.example/'>", "<meta http-equiv=refresh content='0;url=https://evil.example/'>", "<form action=https://evil.example/><button>Cancel job</button></form>", "<style>*{display:none}</style>", "<plaintext>", "<xmp>", "{{constructor.constructor('evil=1')()}}", "${evil=true}");
  evils.push("\u202Etxt.exe", "\u2066\u2067\u2068\u2069 isolates", "zero\u200Bwidth\uFEFF", "tag\u{E0041}s", "\u061C arabic mark", "a\u0300".repeat(2000), "\u001b[2J\u001b[H", "\u001b]0;title\u0007", "\u001b]52;c;ZXZpbA==\u0007", "\u001bP+q\u001b\\", "\u001b[38;5;196mred\u001b[48;2;1;2;3m", "\u009b31m", "\u001b[", "\u001b]8;;", "\u0007\u0008\u000b\u000c", "line\rover", "x".repeat(100_000), `${"y ".repeat(40_000)}`, "\n".repeat(3000), "<".repeat(20_000), "`".repeat(5000), "*".repeat(5000), "[".repeat(5000), "#".repeat(3000), "\u{1F4A9}".repeat(3000), "\uD83D", "data: forged\n\nid: 9\n\n", "__proto__", "constructor", "]]>", "%3Cscript%3E", "1) ".repeat(500), "- ".repeat(500), "> ".repeat(500), "| a | b |\n|---|---|\n".repeat(200));
  return evils;
}

await start();
const failures = [];
try {
  for (const [name, test] of Object.entries(tests)) {
    if (!name.includes(only)) continue;
    const began = Date.now();
    try {
      await test();
      assert.deepEqual(violations.splice(0), [], "no error, no dialog, no violation of the policy");
      console.log(`ok      ${name} (${Date.now() - began} ms)`);
    } catch (error) {
      failures.push(`FAILED  ${name}: ${error.stack}`);
      console.log(`FAILED  ${name} (${Date.now() - began} ms)`);
      const page = context.pages().at(-1);
      if (page) await page.screenshot({ path: join(pictures, `failed-${name.slice(0, 20).replaceAll(" ", "-")}.png`) }).catch(() => {});
      for (const page of context.pages()) await page.close();
    }
  }
} finally {
  await browser.close();
  await kill();
}
// What failed stands last, where a log that is cut still has it.
for (const failure of failures) console.log(failure);
process.exit(failures.length === 0 ? 0 : 1);
