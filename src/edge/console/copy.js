// @ts-check
// A task, or the watching of a job, as commands and code that work when they are pasted.

import { base } from "./api.js";
import { copyButton, h } from "./dom.js";

/** @param {string} text */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const address = base.replace(/\/$/u, "");

/** @param {any} body As the JSON door takes it: a task with its options beside it. */
function forGrpc({ command, tool, arguments: given, agent_id, input_text, ...options }) {
  const task = command !== undefined ? { command } : tool !== undefined ? { tool_call: { tool, arguments: { text: JSON.stringify(given ?? {}) } } } : { agent_run: { agent_id, input_text } };
  return Object.keys(options).length > 0 ? { task, options } : { task };
}

/** @param {any} task */
function commandLine(task) {
  const flags = [
    ...(task.conversation_id ? [`--conversation ${shell(task.conversation_id)}`] : []),
    ...(task.timeout_seconds ? [`--timeout ${task.timeout_seconds}`] : []),
    ...Object.entries(task.labels ?? {}).map(([key, value]) => `--label ${shell(`${key}=${value}`)}`),
  ];
  const server = [`conductor-gateway run --server ${shell(address)}`, ...flags].join(" ");
  if (task.command !== undefined) return `${server} -- ${shell(task.command)}`;
  if (task.tool !== undefined) return `${server} --tool ${shell(task.tool)} -- ${shell(JSON.stringify(task.arguments ?? {}))}`;
  return `${server} --agent ${shell(task.agent_id)} -- ${shell(task.input_text)}`;
}

/** @param {any} value A JSON value as a Python literal. @returns {string} */
function python(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${python(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/**
 * @param {any} task
 * @returns {[string, string][]} Names and texts.
 */
export function taskForms(task) {
  const host = new URL(base).host;
  const members = Object.entries(task).map(([key, value]) => `${key}=${python(value)}`).join(", ");
  return [
    ["curl", `curl -sS ${shell(`${address}/api/v1/stream-execute`)} -H 'content-type: application/json' -d ${shell(JSON.stringify(task))}`],
    ["gRPC", `grpcurl -plaintext -d ${shell(JSON.stringify(forGrpc(task)))} ${shell(host)} conductor.gateway.v1.GatewayService/StreamExecute`],
    ["Python", `from conductor_gateway_client import Client\n\nwith Client(${JSON.stringify(address)}) as client:\n    print(client.run(${members}))\n`],
    ["TypeScript", `import { Client } from "@conductor-gateway/client";\n\nconst client = new Client(${JSON.stringify(address)});\nconsole.log(await client.run(${JSON.stringify(task)}));\n`],
    ["Command line", commandLine(task)],
  ];
}

/**
 * @param {string} jobId
 * @returns {[string, string][]}
 */
export function watchForms(jobId) {
  const host = new URL(base).host;
  return [
    ["curl", `curl -sSN ${shell(`${address}/api/v1/stream/${jobId}`)}`],
    ["gRPC", `grpcurl -plaintext -d ${shell(JSON.stringify({ job_id: jobId }))} ${shell(host)} conductor.gateway.v1.GatewayService/WatchJob`],
    ["Python", `from conductor_gateway_client import Client\n\nwith Client(${JSON.stringify(address)}) as client:\n    for event in client.follow(${JSON.stringify(jobId)}):\n        print(event.sequence, event.name, event.data)\n`],
    ["TypeScript", `import { Client } from "@conductor-gateway/client";\n\nconst client = new Client(${JSON.stringify(address)});\nfor await (const event of client.follow(${JSON.stringify(jobId)})) console.log(event.sequence, event.event, event.data);\n`],
    ["Command line", `conductor-gateway jobs watch --server ${shell(address)} ${jobId}`],
  ];
}

/**
 * Folded buttons that copy each form; `forms` is called when one is pressed, and may throw a sentence.
 * @param {string} label
 * @param {() => [string, string][]} forms
 */
export function copyMenu(label, forms) {
  const names = ["curl", "gRPC", "Python", "TypeScript", "Command line"];
  return h("details", { class: "copy" }, h("summary", null, label), h("div", { class: "buttons" },
    names.map((name) => copyButton(name, () => forms().find(([known]) => known === name)?.[1] ?? ""))));
}
