// @ts-check
// The list of jobs at the left: newest first, filtered by what stands in the address, kept up to date by the stream of jobs.

import { suffix } from "./address.js";
import { get, inWords } from "./api.js";
import { fill, h } from "./dom.js";
import { STATE_NAMES, ago, hasEnded, short, state, stateInWords } from "./words.js";
import { line } from "./text.js";

/** How many jobs a page of the list has. */
const PAGE = 25;

export class JobList {
  /**
   * @param {HTMLElement} place
   * @param {(filter: {text: string, state: string}) => void} changed Called when the reader changes the filter.
   */
  constructor(place, changed) {
    /** @type {Map<string, any>} */
    this.jobs = new Map();
    this.filter = { text: "", state: "", conversation: "", label: "" };
    /** The tokens of the pages before this one, and of the next. @type {string[]} */
    this.before = [];
    this.token = "";
    this.next = "";
    this.current = "";
    this.reading = 0;
    this.text = h("input", { type: "search", id: "filter", placeholder: "Find a job", "aria-label": "Find jobs by what was asked, or by a label", oninput: () => {
      clearTimeout(this.typing);
      this.isTyping = true;
      this.typing = setTimeout(() => {
        changed({ text: this.text.value, state: this.state.value });
        this.isTyping = false;
      }, 200);
    } });
    /** @type {any} */
    this.typing = null;
    this.isTyping = false;
    this.state = h("select", { "aria-label": "State", onchange: () => changed({ text: this.text.value, state: this.state.value }) },
      h("option", { value: "" }, "any state"), STATE_NAMES.map((name) => h("option", { value: name.toLowerCase() }, stateInWords(name))));
    this.more = h("p", { class: "quiet", hidden: true });
    this.list = h("ul", { class: "jobs", "aria-label": "Jobs, newest first" });
    this.newer = h("button", { type: "button", class: "plain", onclick: () => this.turn(-1) }, "Newer");
    this.older = h("button", { type: "button", class: "plain", onclick: () => this.turn(1) }, "Older");
    this.wrong = h("p", { class: "wrong", role: "alert", hidden: true });
    fill(place, h("div", { class: "filter" }, this.text, this.state), this.more, this.wrong, this.list, h("div", { class: "buttons" }, this.newer, this.older));
    this.place = place;
    setInterval(() => { if (!document.hidden) this.draw(); }, 10_000);
    // That a job was deleted is told by no stream.
    setInterval(() => { if (!document.hidden) void this.read(); }, 30_000);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) void this.read(); });
  }

  /** @param {{text: string, state: string, conversation: string, label: string}} filter */
  show(filter) {
    if (JSON.stringify(filter) === JSON.stringify(this.filter) && this.isRead) return;
    this.filter = filter;
    if (!this.isTyping) this.text.value = filter.text;
    this.state.value = filter.state;
    const further = [filter.conversation && `conversation ${filter.conversation}`, filter.label && `label ${filter.label}`].filter(Boolean).join(", ");
    this.more.hidden = further === "";
    fill(this.more, `Only ${line(further, 80)}. `, h("a", { href: location.hash.split("?")[0] || "#/" }, "All jobs"));
    this.before = [];
    this.token = "";
    void this.read();
  }

  /** @param {number} by */
  turn(by) {
    if (by > 0) {
      this.before.push(this.token);
      this.token = this.next;
    } else {
      this.token = this.before.pop() ?? "";
    }
    void this.read().then(() => { this.place.scrollTop = 0; });
  }

  async read() {
    const reading = (this.reading += 1);
    const { text, state: wanted, conversation, label } = this.filter;
    const query = new URLSearchParams({ page_size: String(PAGE), page_token: this.token, text, state: wanted, conversation_id: conversation, label });
    try {
      const page = await get(`api/v1/jobs?${query}`);
      if (reading !== this.reading) return;
      this.isRead = true;
      this.jobs = new Map(page.jobs.map((/** @type {any} */ job) => [job.job_id, job]));
      this.next = page.next_page_token;
      this.wrong.hidden = true;
    } catch (error) {
      if (reading !== this.reading) return;
      this.wrong.hidden = false;
      this.wrong.textContent = inWords(error);
    }
    this.draw();
  }

  isRead = false;

  /** @param {any} job */
  fits(job) {
    const { text, state: wanted, conversation, label } = this.filter;
    const options = job.options ?? {};
    const labels = Object.entries(options.labels ?? {}).map(([key, value]) => `${key}:${value}`);
    const found = [String(job.title ?? ""), ...Object.entries(options.labels ?? {}).flat().map(String), ...labels];
    return (text === "" || found.some((one) => one.toLowerCase().includes(text.toLowerCase())))
      && (wanted === "" || job.state.toLowerCase() === wanted)
      && (conversation === "" || options.conversation_id === conversation)
      && (label === "" || labels.includes(label));
  }

  /**
   * Takes summaries from the stream. Returns those whose state has changed, each with the state before.
   * @param {any[]} jobs
   */
  update(jobs) {
    const changes = [];
    for (const job of jobs) {
      const known = this.jobs.get(job.job_id);
      // What the list said may be newer than what the stream says.
      if (known && (hasEnded(known.state) && !hasEnded(job.state) || known.last_sequence > job.last_sequence)) continue;
      changes.push({ job, before: known?.state ?? "" });
      if (known && this.fits(job)) this.jobs.set(job.job_id, job);
      else if (known) this.jobs.delete(job.job_id);
      else if (this.token === "" && this.fits(job)) {
        const newest = [...this.jobs.values()].reduce((latest, one) => (one.create_time > latest ? one.create_time : latest), "");
        const sorted = [job, ...this.jobs.values()].sort((a, b) => (a.create_time < b.create_time ? 1 : -1));
        if (job.create_time > newest || sorted.indexOf(job) < PAGE) {
          if (sorted.length > PAGE && this.next === "") void this.read();
          this.jobs = new Map(sorted.slice(0, PAGE).map((one) => [one.job_id, one]));
        }
      }
    }
    if (changes.length > 0) this.draw();
    return changes;
  }

  /** @param {string} jobId */
  select(jobId) {
    this.current = jobId;
    this.draw();
  }

  draw() {
    const isFiltered = Object.values(this.filter).some((value) => value !== "");
    const active = /** @type {HTMLElement | null} */ (document.activeElement?.closest(".jobs a"))?.dataset.job;
    fill(this.list, [...this.jobs.values()].map((job) => h("li", null,
      h("a", { href: `#/jobs/${job.job_id}${suffix()}`, "data-job": job.job_id, "aria-current": job.job_id === this.current ? "page" : null },
        h("span", { class: "title", dir: "auto" }, job.title ? line(job.title, 120) : `job ${short(job.job_id)}`),
        h("span", { class: "under" }, state(job.state), ago(job.create_time))))));
    if (active) /** @type {HTMLElement | null} */ (this.list.querySelector(`[data-job="${CSS.escape(active)}"]`))?.focus({ preventScroll: true });
    if (this.jobs.size === 0 && this.isRead) {
      fill(this.list, h("li", { class: "quiet" }, isFiltered ? ["Nothing that was asked, and no label, fits. ", h("a", { href: location.hash.split("?")[0] || "#/" }, "All jobs")] : "Your jobs will be listed here. Give the gateway a task to make one."));
    }
    this.newer.hidden = this.before.length === 0;
    this.older.hidden = this.next === "";
  }

  /**
   * Moves the focus in the list.
   * @param {number} by
   */
  step(by) {
    const links = /** @type {HTMLElement[]} */ ([...this.list.querySelectorAll("a")]);
    const at = links.findIndex((link) => link === document.activeElement);
    const from = at >= 0 ? at : links.findIndex((link) => link.getAttribute("aria-current") === "page");
    links[Math.max(0, Math.min(links.length - 1, from + by))]?.focus();
  }
}
