// Four grpc-web libraries in a real browser, from a page of another origin. Arguments: the gateway's address, the contract's image, an
// ended job, a job that goes on.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [address, image, ended, running, script] = process.argv.slice(2);
const { buildSync } = createRequire(import.meta.url)("esbuild");
const bundle = buildSync({ entryPoints: [script], bundle: true, write: false, format: "iife", target: "es2022" }).outputFiles[0].text;
const page_of_another_origin = http.createServer((request, response) => {
  const isScript = request.url === "/script.js";
  response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
  response.end(isScript ? bundle : "<!doctype html><script src=script.js></script>");
});
await new Promise((resolve) => page_of_another_origin.listen(0, "127.0.0.1", resolve));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${page_of_another_origin.address().port}/`);
const contract = readFileSync(image).toString("base64");
const call = (client, what, ...given) => page.evaluate(
  ([contract, address, client, what, given]) => globalThis.clients(contract, address)[client][what](...given), [contract, address, client, what, given]);
const names = await page.evaluate(([contract, address]) => Object.keys(globalThis.clients(contract, address)), [contract, address]);
assert.equal(names.length, 4);
const { version } = await (await fetch(`${address}/api/v1/info`)).json();
const { last_sequence: last } = await (await fetch(`${address}/api/v1/jobs/${ended}`)).json();
for (const name of names) {
  assert.equal(await call(name, "version"), version, name);
  assert.deepEqual(await call(name, "sequences", ended), Array.from({ length: last }, (_, index) => index + 1), name);
  const refusal = await call(name, "refusal", "job_nope");
  assert.ok([5, "NOT_FOUND"].includes(refusal.code) && refusal.hasReason, `${name}: ${JSON.stringify(refusal)}`);
  assert.equal(await call(name, "aborted", running), "aborted", name);
  console.log(`ok ${name}`);
}
await browser.close();
page_of_another_origin.close();
