// @ts-check
// A run as rows: one for each thing that happens, not one for each event. Pure: no document, no network.

import { GrowingText } from "./text.js";

/** The most rows that are kept; the oldest go first. */
const MAX_ROWS = 20_000;

/**
 * @typedef {object} Row
 * @property {string} kind text, reasoning, call, note, question, result or error
 * @property {number} sequence The event that began it.
 * @property {number} time Seconds since 1970.
 * @property {number} version Grows with every change.
 * @property {GrowingText} [text]
 * @property {any} [data] The event's payload that began it.
 * @property {any} [end] The payload that ended it.
 * @property {GrowingText} [log] What a call printed beside its answer.
 * @property {GrowingText} [errors] What a call printed as errors.
 * @property {boolean} [isOpen] Whether it goes on.
 */

export class Run {
  /** @param {string} jobId */
  constructor(jobId) {
    this.jobId = jobId;
    /** @type {Row[]} */
    this.rows = [];
    /** How many of the oldest rows were dropped. */
    this.dropped = 0;
    this.last = 0;
    /** The state, as far as events say. */
    this.state = "";
    this.message = "";
    /** Why it failed. */
    this.reason = "";
    /** @type {any} */
    this.question = null;
    /** @type {any} */
    this.usage = null;
    this.model = "";
    this.engine = "";
    this.calls = 0;
    /** Sequences that cannot be shown. */
    this.unknown = 0;
    /** @type {Map<string, Row>} */
    this.open = new Map();
    /** @type {Row | null} */
    this.words = null;
    /** The wait that goes on. @type {Row | null} */
    this.wait = null;
    /** When something last happened before the end, in seconds since 1970. */
    this.workedUntil = 0;
    /** What was answered from this page, by question. @type {Map<string, string>} */
    this.answers = new Map();
  }

  get hasEnded() {
    return ["SUCCEEDED", "FAILED", "CANCELLED", "INTERRUPTED"].includes(this.state);
  }

  /**
   * @param {string} kind
   * @param {any} event
   * @param {Partial<Row>} [more]
   * @returns {Row}
   */
  row(kind, event, more) {
    /** @type {Row} */
    const row = { kind, sequence: event.sequence, time: event.timestamp, version: 0, data: event.data, ...more };
    this.rows.push(row);
    if (this.rows.length > MAX_ROWS) {
      this.rows.shift();
      this.dropped += 1;
    }
    return row;
  }

  /**
   * Takes an event. Returns whether it was new.
   * @param {any} event
   */
  apply(event) {
    if (event.sequence <= this.last) return false;
    this.last = event.sequence;
    const data = event.data ?? {};
    if (this.wait && event.event !== "status_update") {
      this.wait.end = event.timestamp;
      this.wait.version += 1;
      this.wait = null;
    }
    if (!["error", "end_of_stream"].includes(event.event)) this.workedUntil = event.timestamp;
    switch (event.event) {
      case "job_started":
        this.state = "RUNNING";
        this.engine = data.engine;
        break;
      case "status_update":
        if (data.state && data.state !== "UNSPECIFIED") this.state = data.state;
        {
          const row = this.row("note", event);
          if (["QUEUED", "WAITING_FOR_AGENT"].includes(data.reason)) this.wait = row;
        }
        break;
      case "on_chain_start":
        this.model = data.model ? `${data.model} (${data.provider})` : "none: the direct planner";
        break;
      case "on_chain_end":
        this.usage = data.usage ?? this.usage;
        break;
      case "on_llm_start":
        this.words = null;
        break;
      case "on_llm_new_token": {
        const kind = data.is_reasoning ? "reasoning" : "text";
        if (this.words?.kind !== kind) {
          this.closeWords();
          this.words = this.row(kind, event, { text: new GrowingText(), isOpen: true, data: null });
        }
        this.words.text?.add(data.text);
        this.words.version += 1;
        break;
      }
      case "on_llm_end":
        this.usage = sum(this.usage, data.usage);
        this.closeWords();
        if (data.repaired_calls > 0) {
          this.row("note", event, { data: { message: `${data.repaired_calls} tool calls were written as text, or under a decorated name, and understood` } });
        }
        break;
      case "on_tool_start": {
        this.closeWords();
        this.calls += 1;
        const row = this.row("call", event, { text: new GrowingText(), log: new GrowingText(), errors: new GrowingText(), isOpen: true });
        this.open.set(data.tool_call_id, row);
        break;
      }
      case "on_tool_output": {
        const row = this.open.get(data.tool_call_id);
        if (!row) break;
        const output = data.stream === "STDERR" ? row.errors : data.stream === "LOG" ? row.log : row.text;
        output?.add(data.text);
        row.version += 1;
        break;
      }
      case "on_tool_end": {
        const row = this.open.get(data.tool_call_id);
        if (!row) break;
        row.end = data;
        row.isOpen = false;
        row.version += 1;
        this.open.delete(data.tool_call_id);
        break;
      }
      case "input_required":
        this.state = "INPUT_REQUIRED";
        this.question = data;
        this.row("question", event, { isOpen: true });
        break;
      case "input_received": {
        this.state = "RUNNING";
        this.question = null;
        const row = this.rows.findLast((row) => row.kind === "question" && row.data.input_id === data.input_id);
        if (row) {
          row.end = data;
          row.isOpen = false;
          row.version += 1;
        }
        break;
      }
      case "result":
      case "error": {
        this.closeWords();
        const said = this.rows.findLast((row) => row.kind === "text");
        // The answer is the last thing that the model said: it is shown once.
        if (event.event === "result" && said?.text?.lost === 0 && said.text.text().trim() === String(data.result).trim()) {
          this.rows.splice(this.rows.indexOf(said), 1);
        }
        if (event.event === "error") this.reason = String(data.reason ?? "");
        this.row(event.event, event);
        break;
      }
      case "end_of_stream":
        this.state = data.state;
        this.message = data.message;
        this.question = null;
        for (const row of this.open.values()) {
          row.isOpen = false;
          row.version += 1;
        }
        this.open.clear();
        for (const row of this.rows) if (row.kind === "question" && row.isOpen) { row.isOpen = false; row.version += 1; }
        break;
      default:
        this.unknown += 1;
    }
    return true;
  }

  closeWords() {
    if (this.words) {
      this.words.isOpen = false;
      this.words.version += 1;
    }
    this.words = null;
  }

  /** What goes on now, in a few words. */
  now() {
    const call = [...this.open.values()].pop();
    if (this.state === "INPUT_REQUIRED") return "waits for your answer";
    if (call) return `runs ${call.data.tool}`;
    if (this.words) return this.words.kind === "reasoning" ? "thinks" : "writes";
    return this.state === "RUNNING" ? "works" : "";
  }
}

/**
 * @param {any} before
 * @param {any} more
 */
function sum(before, more) {
  if (!more) return before;
  const total = { ...before };
  for (const [key, value] of Object.entries(more)) {
    if (typeof value === "number") total[key] = (total[key] ?? 0) + value;
    else if (key === "cost" && value) total.cost = String(Number(((Number(total.cost) || 0) + Number(value)).toFixed(9)));
    else if (value !== null) total[key] = value;
  }
  return total;
}
