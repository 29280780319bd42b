// @ts-check
// The streams of all tabs of this origin: one of the caller's jobs, one of the events of all jobs that are looked at. A browser has
// six connections to an origin, so that tabs with streams of their own would stop each other.

import { read } from "./sse.js";

/** The most jobs on one stream. */
const MAX_JOBS = 64;
/** The most streams of events; a browser has six connections to an origin, and pages need some for their calls. */
const MAX_STREAMS = 3;
const FIRST_PAUSE = 300;
const LONGEST_PAUSE = 5_000;

/** @param {number} attempt */
const pause = (attempt) => Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(attempt, 10)) * (0.75 + Math.random() / 2);

/**
 * One tab. `post` takes: {type: "events", jobId, events}, {type: "jobs", jobs}, {type: "gone", jobId},
 * {type: "connection", isOpen, since}, {type: "again"} after a cut of the stream of jobs.
 * @typedef {{post: (message: any) => void, jobId: string | null, last: number}} Tab
 */

export class Hub {
  /** @param {string} base The gateway's address. */
  constructor(base) {
    this.base = base;
    /** @type {Set<Tab>} */
    this.tabs = new Set();
    /** The last sequence that was read of each job, and whether its end was. @type {Map<string, {last: number, hasEnded: boolean}>} */
    this.jobs = new Map();
    this.cursor = "";
    this.isOpen = true;
    this.since = Date.now();
    /** @type {AbortController} */
    this.reading = new AbortController();
    /** Wakes a stream that waits for its next attempt. @type {Set<() => void>} */
    this.waiting = new Set();
    this.isStarted = false;
  }

  /** @param {Tab} tab */
  add(tab) {
    this.tabs.add(tab);
    tab.post({ type: "connection", isOpen: this.isOpen, since: this.since });
    if (!this.isStarted) {
      this.isStarted = true;
      void this.followJobs();
      void this.followEvents();
    }
  }

  /** @param {Tab} tab */
  remove(tab) {
    this.tabs.delete(tab);
    this.forget();
  }

  /**
   * Takes a message of a tab: {type: "follow", jobId, last} (null follows none), {type: "retry"}, {type: "close"},
   * {type: "alive", name} with the lock that it holds as long as it lives.
   * @param {Tab} tab
   * @param {any} message
   */
  hear(tab, message) {
    if (message.type === "close") this.remove(tab);
    if (message.type === "alive") void navigator.locks?.request(message.name, () => this.remove(tab));
    if (message.type === "retry") this.wake();
    if (message.type === "follow") {
      tab.jobId = message.jobId;
      tab.last = message.last;
      const known = message.jobId && this.jobs.get(message.jobId);
      if (message.jobId && (!known || known.last > message.last)) {
        // The stream begins where this tab stands; what others have seen is not passed to them again.
        this.jobs.set(message.jobId, { last: message.last, hasEnded: false });
        this.reading.abort();
      }
      this.forget();
      this.wake();
    }
  }

  wake() {
    for (const wake of [...this.waiting]) wake();
  }

  /** Drops jobs that no tab looks at. */
  forget() {
    const wanted = new Set([...this.tabs].map((tab) => tab.jobId));
    for (const jobId of this.jobs.keys()) {
      if (!wanted.has(jobId) && this.jobs.delete(jobId)) this.reading.abort();
    }
  }

  /** @param {any} message */
  tell(message) {
    for (const tab of this.tabs) tab.post(message);
  }

  /**
   * @param {boolean} isOpen
   * @param {number} [status] What the gateway answered, where it did.
   */
  connection(isOpen, status = 0) {
    if (this.isOpen === isOpen) return;
    this.isOpen = isOpen;
    this.since = Date.now();
    this.tell({ type: "connection", isOpen, since: this.since, status });
  }

  /** @param {number} ms */
  sleep(ms) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.waiting.delete(wake);
        resolve(null);
      };
      const timer = setTimeout(wake, ms);
      this.waiting.add(wake);
    });
  }

  /** The states of all of the caller's jobs; goes on behind a cut by itself. */
  async followJobs() {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const headers = this.cursor ? { "last-event-id": this.cursor } : undefined;
        const status = await read(`${this.base}api/v1/watch`, headers ?? {}, new AbortController().signal, (events) => {
          attempt = 0;
          const jobs = [];
          for (const { id, data } of events) {
            if (id) this.cursor = id;
            if (data) jobs.push(JSON.parse(data).data);
          }
          if (jobs.length > 0) this.tell({ type: "jobs", jobs });
        }, () => {
          this.connection(true);
          this.tell({ type: "again" });
        });
        // A cursor of another store: the pages read their lists again when the stream is open.
        if (status === 400) this.cursor = "";
        this.connection(status === 200 || status === 204, status);
      } catch {
        this.connection(false);
      }
      await this.sleep(pause(attempt));
    }
  }

  /** The events of the jobs that tabs look at. */
  async followEvents() {
    for (let attempt = 0; ; attempt += 1) {
      const open = [...this.jobs].filter(([, job]) => !job.hasEnded).slice(0, MAX_STREAMS * MAX_JOBS);
      if (open.length === 0) {
        attempt = 0;
        await this.sleep(3_600_000);
        continue;
      }
      const reading = new AbortController();
      this.reading = reading;
      const groups = [];
      for (let from = 0; from < open.length; from += MAX_JOBS) groups.push(open.slice(from, from + MAX_JOBS));
      const streams = groups.map(async (group) => {
        const named = group.map(([jobId, job]) => `${jobId}:${job.last}`).join(",");
        const status = await read(`${this.base}api/v1/watch?job=${encodeURIComponent(named)}`, {}, reading.signal, (events) => {
          attempt = 0;
          if (!reading.signal.aborted) this.deal(events);
        }, () => this.connection(true));
        return { status, group };
      });
      try {
        // Whichever ends first: they all begin anew, with the jobs that are left.
        const { status, group } = await Promise.race(streams);
        if (status === 400 || status === 404) await this.look(group.map(([jobId]) => jobId));
        if (status === 204) for (const [, job] of group) job.hasEnded = true;
      } catch {
        if (reading.signal.aborted) attempt = -1;
        else this.connection(false);
      }
      const wasAborted = reading.signal.aborted;
      reading.abort();
      await Promise.allSettled(streams);
      if (!wasAborted && [...this.jobs.values()].some((job) => !job.hasEnded)) await this.sleep(pause(attempt));
    }
  }

  /** @param {{id: string, data: string}[]} events */
  deal(events) {
    /** @type {Map<string, any[]>} */
    const byJob = new Map();
    for (const { data } of events) {
      if (!data) continue;
      const event = JSON.parse(data);
      const job = this.jobs.get(event.job_id);
      if (!job || event.sequence <= job.last) continue;
      job.last = event.sequence;
      if (event.event === "end_of_stream") job.hasEnded = true;
      const list = byJob.get(event.job_id);
      if (list) list.push(event);
      else byJob.set(event.job_id, [event]);
    }
    for (const [jobId, list] of byJob) {
      for (const tab of this.tabs) {
        if (tab.jobId !== jobId) continue;
        const news = list.filter((event) => event.sequence > tab.last);
        if (news.length === 0) continue;
        tab.last = news[news.length - 1].sequence;
        tab.post({ type: "events", jobId, events: news });
      }
    }
  }

  /**
   * Finds out which of the jobs are gone, or begin anew.
   * @param {string[]} jobIds
   */
  async look(jobIds) {
    for (const jobId of jobIds) {
      const answer = await fetch(`${this.base}api/v1/jobs/${encodeURIComponent(jobId)}`).catch(() => null);
      if (answer?.status === 404) {
        this.jobs.delete(jobId);
        for (const tab of this.tabs) if (tab.jobId === jobId) tab.post({ type: "gone", jobId });
      }
    }
  }
}

/**
 * The address of a script, as the page's policy wants it: this is the only place that makes one.
 * @param {string} url
 * @returns {any}
 */
function trusted(url) {
  const types = /** @type {any} */ (globalThis).trustedTypes;
  return types ? types.createPolicy("console", { createScriptURL: (/** @type {string} */ one) => one }).createScriptURL(url) : url;
}

/**
 * Connects this page to the hub of its origin; where browsers share no workers, to one of its own.
 * @param {string} base
 * @param {(message: any) => void} hear
 * @returns {(message: any) => void}
 */
export function connect(base, hear) {
  if (typeof SharedWorker === "function") {
    const { port } = new SharedWorker(trusted(new URL("worker.js", import.meta.url).href), { type: "module", name: base });
    port.onmessage = (message) => hear(message.data);
    // A tab that crashes says no goodbye, but loses its lock.
    const name = `conductor-gateway-tab-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
    void navigator.locks?.request(name, () => {
      port.postMessage({ type: "alive", name });
      return new Promise(() => {});
    });
    addEventListener("pagehide", () => port.postMessage({ type: "close" }));
    // A page that comes back from the browser's cache of pages has no hub any more.
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
    addEventListener("online", () => port.postMessage({ type: "retry" }));
    return (message) => port.postMessage(message);
  }
  const hub = new Hub(base);
  /** @type {Tab} */
  const tab = { post: hear, jobId: null, last: 0 };
  hub.add(tab);
  addEventListener("online", () => hub.wake());
  return (message) => hub.hear(tab, message);
}
