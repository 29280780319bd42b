// @ts-check
// States, times and numbers in words.

import { now } from "./api.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";

/** @type {Record<string, string>} */
const STATES = {
  QUEUED: "queued",
  RUNNING: "running",
  INPUT_REQUIRED: "waiting for you",
  SUCCEEDED: "succeeded",
  FAILED: "failed",
  CANCELLED: "cancelled",
  INTERRUPTED: "interrupted",
};
export const STATE_NAMES = Object.keys(STATES);

/** @param {string} name */
export const stateInWords = (name) => STATES[name] ?? name.toLowerCase();
/** @param {string} name */
export const hasEnded = (name) => ["SUCCEEDED", "FAILED", "CANCELLED", "INTERRUPTED"].includes(name);

/**
 * A state as a shape, a colour and a word.
 * @param {string} name
 */
export function state(name) {
  const key = name.toLowerCase();
  return h("span", { class: `state ${key}` }, icon(key), stateInWords(name));
}

/**
 * A duration in its two largest units.
 * @param {number} ms
 */
export function duration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 10) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= Number(size));
  let rest = seconds;
  return units.slice(first, first + 2).map(([name, size]) => {
    const count = Math.floor(rest / Number(size));
    rest -= count * Number(size);
    return count > 0 ? `${count} ${name}` : "";
  }).filter(Boolean).join(" ");
}

/** @param {string | number} time */
const millis = (time) => (typeof time === "number" ? time * 1000 : Date.parse(time));

/**
 * How long ago something was, with the time itself on hover.
 * @param {string | number} time
 */
export function ago(time) {
  const at = millis(time);
  const passed = now() - at;
  const text = passed < 5000 ? "now" : `${duration(passed).split(" ").slice(0, 2).join(" ")} ago`;
  return h("time", { datetime: new Date(at).toISOString(), title: new Date(at).toLocaleString() }, text);
}

/**
 * @param {any} job
 * @returns {number | null}
 */
export function took(job) {
  if (!job.start_time) return null;
  return (job.end_time ? Date.parse(job.end_time) : now()) - Date.parse(job.start_time);
}

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < 2) { value /= 1024; unit += 1; }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const IN_GROUPS = new Intl.NumberFormat("en");

/** @param {number} number */
export const count = (number) => IN_GROUPS.format(Number(number));

/** The end of an id, by which people recognise it. @param {string} id */
export const short = (id) => id.slice(-8);
