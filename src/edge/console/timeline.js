// @ts-check
// The timeline of a run: a window of its rows, whatever their number.

import { base } from "./api.js";
import { fill, h, put } from "./dom.js";
import { icon } from "./icons.js";
import { inline, markdown } from "./markdown.js";
import { LIVE, PAGE, line, plain, terminal } from "./text.js";
import { ago, count, duration, size } from "./words.js";

/** The most rows in the document. */
const WINDOW = 30;
/** How many rows a step earlier or later moves. */
const STEP = 20;

/** @typedef {import("./model.js").Row} Row */
/** @typedef {import("./text.js").GrowingText} GrowingText */

/**
 * @param {any} value
 * @returns {string}
 */
const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "");

/**
 * A long text: its first screen, and the rest on demand.
 * @param {string} text
 * @param {(piece: string) => Node | Node[]} render
 */
function paged(text, render) {
  const place = h("div", null);
  let shown = Math.min(PAGE, text.length);
  // Never between the two halves of a character.
  const cut = () => (/[\ud800-\udbff]$/u.test(text.slice(0, shown)) ? shown - 1 : shown);
  const draw = () => {
    const end = cut();
    fill(place, render(text.slice(0, end)), end < text.length && h("button", { type: "button", class: "plain", onclick: () => {
      shown = Math.min(text.length, shown + PAGE);
      draw();
    } }, `Show more (${count(text.length - end)} characters left)`));
  };
  draw();
  return place;
}

/**
 * @param {string} label
 * @param {string} text
 * @param {string} [className]
 */
function block(label, text, className = "") {
  if (text === "") return null;
  return [h("small", null, label), paged(text, (piece) => h("pre", { class: `block ${className}`, tabindex: "0", dir: "auto", "aria-label": label }, terminal(piece)))];
}

/**
 * What a call prints: how it is called, what there is of it, its class.
 * @param {Row} row
 * @returns {[string, import("./text.js").GrowingText | undefined, string][]}
 */
const growing = (row) => [["Output", row.text, ""], ["Beside the answer", row.log, ""], ["Errors of the process", row.errors, "errors"]];

/**
 * The argument of a call that says most.
 * @param {any} data
 */
function argument(data) {
  const given = data.arguments ?? {};
  const first = ["command", "input_text", "initial_input", "prompt", "path", "query", "agent_id"].find((name) => typeof given[name] === "string");
  const agent = first && first !== "agent_id" && given.agent_id ? `${given.agent_id}: ` : "";
  if (first) return line(agent + given[first], 160);
  const entries = Object.entries(given);
  return entries.length === 0 ? "" : line(JSON.stringify(given), 160);
}

export class Timeline {
  /**
   * @param {import("./model.js").Run} run
   * @param {HTMLElement} scroller What scrolls.
   */
  constructor(run, scroller) {
    this.run = run;
    this.scroller = scroller;
    this.follows = true;
    /** The first row of the window. */
    this.from = 0;
    /** Rows that the reader has opened or closed. @type {Map<number, boolean>} */
    this.folds = new Map();
    /** @type {Map<Row, {element: HTMLElement, version: number}>} */
    this.drawn = new Map();
    this.here = 0;
    this.earlier = h("button", { type: "button", onclick: () => this.move(-STEP) });
    this.later = h("button", { type: "button", onclick: () => this.move(STEP) });
    this.list = h("ol", { class: "timeline", "aria-label": "Timeline" });
    this.news = h("button", { type: "button", class: "follow", hidden: true, onclick: () => this.toEnd() });
    this.element = h("div", null, this.earlier, this.list, this.later, this.news);
    this.seen = 0;
    this.scroller.addEventListener("scroll", () => {
      if (this.isMoving) return;
      const isAtEnd = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < 48;
      if (isAtEnd !== this.follows && (!isAtEnd || this.from + WINDOW >= this.run.rows.length)) {
        this.follows = isAtEnd;
        this.seen = this.run.rows.length;
        this.mark();
      }
    }, { passive: true });
    this.isMoving = false;
  }

  /** Draws what has changed; at most a window of rows. */
  draw() {
    const { rows } = this.run;
    if (this.follows) {
      this.from = Math.max(0, rows.length - WINDOW);
      this.seen = rows.length;
    }
    this.from = Math.max(0, Math.min(this.from, rows.length - 1));
    const shown = rows.slice(this.from, this.from + WINDOW);
    const wanted = new Set(shown);
    for (const [row, { element }] of this.drawn) {
      if (!wanted.has(row)) {
        element.remove();
        this.drawn.delete(row);
      }
    }
    /** @type {HTMLElement[]} */
    const changed = [];
    /** @type {HTMLElement | null} */
    let before = null;
    for (const row of shown) {
      const known = this.drawn.get(row);
      let element = known?.element;
      if (!element || known?.version !== row.version) {
        const next = element && this.grow(row, element) ? element : this.row(row);
        if (element && next !== element) element.replaceWith(next);
        element = next;
        this.drawn.set(row, { element, version: row.version });
        if (row.isOpen && row.kind === "call") changed.push(element);
      }
      /** @type {ChildNode | null} */
      const after = before ? before.nextSibling : this.list.firstChild;
      if (after !== element) this.list.insertBefore(element, after);
      before = element;
    }
    // The end of what a process prints is what is looked at.
    for (const element of changed) for (const block of element.querySelectorAll(".block.grows")) block.scrollTop = block.scrollHeight;
    const hidden = this.from + this.run.dropped;
    this.earlier.hidden = this.from === 0;
    this.earlier.textContent = `${count(hidden)} earlier`;
    const left = rows.length - this.from - shown.length;
    this.later.hidden = left <= 0;
    this.later.textContent = `${count(left)} later`;
    this.mark();
    if (this.follows) this.scrollToEnd();
  }

  mark() {
    if (this.follows) {
      this.news.hidden = true;
      return;
    }
    const last = this.from + WINDOW >= this.run.rows.length ? this.list.lastElementChild : null;
    const isInView = last !== null && last.getBoundingClientRect().top < this.scroller.getBoundingClientRect().bottom - 60;
    if (isInView) this.seen = this.run.rows.length;
    const news = this.run.rows.length - this.seen;
    this.news.hidden = news <= 0;
    this.news.textContent = `${count(news)} new below`;
  }

  scrollToEnd() {
    this.isMoving = true;
    const last = /** @type {HTMLElement | null} */ (this.list.lastElementChild);
    // A long answer is read from its beginning.
    if (last && this.run.hasEnded && last.offsetHeight > this.scroller.clientHeight * 0.8) last.scrollIntoView({ block: "start" });
    else this.scroller.scrollTop = this.scroller.scrollHeight;
    requestAnimationFrame(() => { this.isMoving = false; });
  }

  toEnd() {
    this.follows = true;
    this.draw();
  }

  /** @param {number} by */
  move(by) {
    this.follows = false;
    this.seen = this.run.rows.length;
    this.from = Math.max(0, Math.min(this.run.rows.length - 1, this.from + by));
    const anchor = by < 0 ? this.list.firstElementChild : this.list.lastElementChild;
    this.draw();
    anchor?.scrollIntoView({ block: "center" });
  }

  /**
   * Shows the row of an event.
   * @param {number} sequence
   */
  show(sequence) {
    const index = this.run.rows.findLastIndex((row) => row.sequence <= sequence);
    if (index < 0) return;
    this.follows = false;
    this.here = this.run.rows[index]?.sequence ?? 0;
    this.from = Math.max(0, index - 5);
    this.drawn.clear();
    fill(this.list);
    this.draw();
    this.list.querySelector(".here")?.scrollIntoView({ block: "center" });
  }

  /**
   * Adds to the text of a row that grows, without drawing it anew. Returns whether that was possible.
   * @param {Row} row
   * @param {HTMLElement} element
   */
  grow(row, element) {
    if (!row.isOpen) return false;
    if (row.kind === "call") {
      const details = element.querySelector("details");
      // What is closed is made when it is opened.
      if (!details?.open) return details !== null;
      const blocks = growing(row).filter(([, text]) => text);
      const known = blocks.map(([label]) => element.querySelector(`.block.grows[aria-label="${label}"]`));
      if (known.includes(null)) return false;
      blocks.forEach(([, text], index) => known[index]?.replaceChildren(...terminal(text?.tail(LIVE) ?? "")));
      return true;
    }
    if (row.kind !== "text" && row.kind !== "reasoning" || !row.text) return false;
    const text = element.querySelector(".text")?.firstChild;
    if (!(text instanceof Text)) return false;
    text.data = plain(row.text.tail(PAGE));
    return true;
  }

  /**
   * @param {Row} row
   * @returns {HTMLElement}
   */
  row(row) {
    const { className, mark, content } = this.content(row);
    return h("li", { class: `row ${row.kind} ${className}${row.sequence === this.here ? " here" : ""}` },
      icon(mark, "mark"),
      h("a", { class: "number", href: `#/jobs/${this.run.jobId}@${row.sequence}`, "aria-label": `Event ${row.sequence}`, title: `Event ${row.sequence}` }, row.sequence),
      content);
  }

  /**
   * @param {Row} row
   * @returns {{className: string, mark: string, content: any}}
   */
  content(row) {
    const data = row.data ?? {};
    switch (row.kind) {
      case "text":
        if (row.isOpen) return { className: "works", mark: "text", content: h("div", { class: "text", dir: "auto" }, plain(row.text?.tail(PAGE) ?? "")) };
        return { className: "", mark: "text", content: paged(row.text?.text() ?? "", markdown) };
      case "reasoning": {
        const text = row.text?.text() ?? "";
        if (row.isOpen) return { className: "works", mark: "text", content: [h("em", null, "Thinking"), h("div", { class: "text", dir: "auto" }, plain(row.text?.tail(PAGE) ?? ""))] };
        return { className: "", mark: "text", content: this.folded(row, false, h("summary", null, `Thought: ${line(text, 90)}`), () => paged(text, (piece) => h("div", { class: "text", dir: "auto" }, plain(piece)))) };
      }
      case "call":
        return this.call(row);
      case "question": {
        const end = row.end;
        const given = this.run.answers.get(data.input_id);
        const outcome = row.isOpen ? "" : end ? (end.is_default ? "Nobody answered in time: the default was taken." : given !== undefined ? `You answered: ${line(given, 200)}` : `Answered by ${line(end.caller, 60)}.`) : "It was withdrawn.";
        return { className: "asks", mark: "input_required", content: [h("div", { dir: "auto" }, plain(String(data.prompt ?? "").slice(0, PAGE))), h("small", null, row.isOpen ? "Waits for an answer." : outcome)] };
      }
      case "result": {
        const text = String(data.result ?? "");
        const bytes = Number(data.result_bytes ?? 0);
        const isLonger = data.is_truncated && bytes > 0;
        return { className: "succeeded", mark: "succeeded", content: [paged(text, markdown),
          data.structured !== null && data.structured !== undefined && this.folded(row, false, h("summary", null, "The answer as data"), () => block("Data", pretty(data.structured).slice(0, 200_000))),
          isLonger && h("p", null, `This is the beginning of ${size(bytes)}. `, h("a", { href: `${base}api/v1/jobs/${this.run.jobId}/result`, target: "_blank", rel: "noopener" }, "Whole answer")),
        ] };
      }
      case "error":
        if (data.reason === "DECLINED") return { className: "", mark: "declined", content: h("p", { class: "text", dir: "auto" }, inline(plain(String(data.message ?? "").slice(0, 8000)))) };
        return { className: "failed", mark: "failed", content: h("div", { class: "card failed" },
          h("p", null, h("strong", null, line(data.reason, 60)), " ", data.is_retryable && data.reason !== "TIMED_OUT" && h("small", null, "The same task may succeed when it is run again.")),
          h("p", { class: "text", dir: "auto" }, inline(plain(String(data.message ?? "").slice(0, 8000)))),
          /^[A-Z_]{3,40}$/u.test(data.reason ?? "") && h("p", null, h("a", { href: `${base}docs/errors/${data.reason}`, target: "_blank", rel: "noopener" }, "What this means and what to do")),
          data.details && this.folded(row, false, h("summary", null, "Details"), () => block("Details", pretty(data.details).slice(0, 100_000)))) };
      default:
        if (row.end) return { className: "", mark: "note", content: `Waited ${duration((row.end - row.time) * 1000)} for ${data.reason === "QUEUED" ? "its turn" : "another run of its agent"}` };
        return { className: "", mark: "note", content: h("span", null, line(data.message, 300), " ", h("small", null, ago(row.time))) };
    }
  }

  /**
   * @param {Row} row
   * @returns {{className: string, mark: string, content: any}}
   */
  call(row) {
    const { data, end } = row;
    const isFailed = end?.is_error === true;
    const className = row.isOpen ? "works" : isFailed ? "failed" : end ? "succeeded" : "";
    const took = end ? duration(end.duration_ms) : row.isOpen ? "runs" : "was ended";
    const summary = h("summary", null, h("code", null, line(data.tool, 60)), h("span", { class: "argument" }, argument(data)), h("span", { class: "took" }, took));
    const body = () => {
      const printed = row.isOpen ? "" : row.text?.text() ?? "";
      const result = end?.result;
      const said = typeof result === "string" ? result : result?.output;
      return h("div", null,
        block(data.is_truncated ? "Arguments (cut)" : "Arguments", Object.keys(data.arguments ?? {}).length === 0 ? "" : pretty(data.arguments).slice(0, 200_000)),
        growing(row).flatMap(([label, text, name]) => block(label, (row.isOpen ? text?.tail(LIVE) : text?.text()) ?? "", row.isOpen ? `${name} grows` : name)),
        isFailed && h("p", { class: "wrong" }, plain(String(end.error ?? "").slice(0, 8000))),
        result !== null && result !== undefined && String(said ?? "").trim() !== printed.trim() && block(end.is_truncated ? "Result (cut)" : "Result", pretty(result).slice(0, 400_000)),
        end && (end.exit_code > 0 || end.signal) && h("small", null, end.signal ? `ended by signal ${end.signal}` : `exit status ${end.exit_code}`));
    };
    // A question says itself what is asked.
    // What the job's own error says again need not be open.
    const said = this.run.rows.findLast((one) => one.kind === "error")?.data?.message;
    const isRepeated = isFailed && typeof said === "string" && said.includes(String(end.error));
    const isLast = data.tool !== "ask_user" && (this.run.rows[this.run.rows.length - 1] === row || row.isOpen === true);
    return { className, mark: "call", content: this.folded(row, isLast || isFailed && !isRepeated, summary, body, "call") };
  }

  /**
   * Something that opens; what is in it is only made when it is open.
   * @param {Row} row
   * @param {boolean} isOpen
   * @param {HTMLElement} summary
   * @param {() => any} body
   * @param {string} [className]
   */
  folded(row, isOpen, summary, body, className = "") {
    const wanted = this.folds.get(row.sequence) ?? isOpen;
    const details = h("details", { class: className, open: wanted }, summary);
    let isMade = false;
    const make = () => {
      if (!isMade) put(details, body());
      isMade = true;
    };
    if (wanted) make();
    // Only a press is the reader's wish; drawing a row opens and closes it, too.
    summary.addEventListener("click", () => this.folds.set(row.sequence, !details.open));
    details.addEventListener("toggle", () => { if (details.open) make(); });
    return details;
  }
}
