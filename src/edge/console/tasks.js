// @ts-check
// Tasks: submitting them, and those of jobs as bodies for the JSON door.

import { call, post } from "./api.js";
import { suffix } from "./address.js";

/**
 * The task of a job, as the JSON door takes it.
 * @param {any} job
 */
export function taskOf(job) {
  const task = job.task ?? {};
  if (task.agent_run) return { agent_id: task.agent_run.agent_id, input_text: task.agent_run.input_text };
  if (task.tool_call) return { tool: task.tool_call.tool, arguments: task.tool_call.arguments ?? {} };
  return { command: task.command ?? "" };
}

/**
 * Submits a task and opens its job. The key makes a second press, or a second try after a cut, the same job.
 * @param {any} task
 * @param {any} [options]
 */
export async function submit(task, options = {}) {
  const key = globalThis.crypto?.randomUUID?.() ?? `console-${Date.now()}-${Math.random().toString(36).slice(2)}`;
  const body = { idempotency_key: key, ...options, ...task };
  let answer;
  try {
    answer = await post("api/v1/stream-execute", body);
  } catch (error) {
    if (/** @type {any} */ (error).status !== 0) throw error;
    answer = await post("api/v1/stream-execute", body);
  }
  location.hash = `#/jobs/${answer.job_id}${suffix()}`;
}

/**
 * What was typed and not sent, by the page's address: it is there again after a look elsewhere, or a reload.
 * @param {string} place
 */
export function draft(place) {
  const key = `draft ${place}`;
  return {
    /** @returns {string} */
    get: () => sessionStorage.getItem(key) ?? "",
    /** @param {string} text */
    set: (text) => (text === "" || text.length > 200_000 ? sessionStorage.removeItem(key) : sessionStorage.setItem(key, text)),
  };
}

/**
 * Opens the form that a job's task came from, filled with it.
 * @param {any} job
 */
export function edit(job) {
  const task = taskOf(job);
  const place = task.command !== undefined ? "#/" : task.tool !== undefined ? `#/tools/${task.tool}` : `#/agents/${task.agent_id}`;
  draft(place).set(task.command ?? task.input_text ?? JSON.stringify(task.arguments));
  location.hash = place;
}

/**
 * The options of a job that a further one of the same task takes over.
 * @param {any} job
 */
export function optionsOf(job) {
  const { timeout_seconds, queue_timeout_seconds, conversation_id, labels, max_steps, max_total_tokens, max_cost } = job.options ?? {};
  const all = { timeout_seconds, queue_timeout_seconds, conversation_id, labels, max_steps, max_total_tokens, max_cost };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value && Object.keys(value).length !== 0 || typeof value === "number" && value > 0));
}

/** @param {string} jobId */
export const cancel = (jobId) => post(`api/v1/jobs/${jobId}/cancel`, {});
/** @param {string} jobId */
export const remove = (jobId) => call("DELETE", `api/v1/jobs/${jobId}`);
