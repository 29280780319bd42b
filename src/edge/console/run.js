// @ts-check
// The page of one job: what it is about, its question, its timeline, and the facts beside it.

import { suffix } from "./address.js";
import { get, inWords, post } from "./api.js";
import { copyMenu, taskForms, watchForms } from "./copy.js";
import { announce, confirmed, copyButton, fill, h } from "./dom.js";
import { answerForm } from "./form.js";
import { Run } from "./model.js";
import { cancel, draft, edit, optionsOf, remove, submit, taskOf } from "./tasks.js";
import { line, plain } from "./text.js";
import { Timeline } from "./timeline.js";
import { ago, count, duration, hasEnded, state, stateInWords, took } from "./words.js";

/**
 * How long one piece of work on events may take, in milliseconds.
 */
const SLICE = 8;

/**
 * @param {{main: HTMLElement, right: HTMLElement, jobId: string, sequence: number, send: (message: any) => void, titled: (title: string) => void, gone: () => void}} place
 * @returns {{hear: (message: any) => void, leave: () => void}}
 */
export function runView({ main, right, jobId, sequence, send, titled, gone }) {
  const run = new Run(jobId);
  /** @type {any} */
  let job = null;
  /** Events that wait to be taken. @type {any[][]} */
  const waiting = [];
  let isScheduled = false;
  let isGone = false;
  let shownQuestion = "";
  let hasAnswered = false;
  const timeline = new Timeline(run, main);
  const typed = draft(`answer ${jobId}`);

  const title = h("h1", null, "…");
  const stateLine = h("div", { class: "line" });
  const acts = h("div", { class: "buttons" });
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const question = h("section", { class: "card asks", "aria-labelledby": "question-title", hidden: true });
  const empty = h("p", { class: "quiet" }, "Nothing has happened yet.");
  fill(main, h("div", { class: "run-head" }, title, stateLine), acts, wrong, empty, timeline.element, question);
  right.hidden = false;

  /** @param {() => Promise<any>} act */
  const doing = (act) => async () => {
    wrong.hidden = true;
    try {
      await act();
    } catch (error) {
      if (/** @type {any} */ (error).status === 404) return readJob();
      wrong.hidden = false;
      wrong.textContent = inWords(error);
    }
  };

  const nowState = () => (run.hasEnded ? run.state : job && hasEnded(job.state) ? job.state : run.state || job?.state || "QUEUED");

  /** Whoever says no to what is asked has not seen a failure. */
  const shownState = () => (nowState() === "FAILED" && run.reason === "DECLINED" ? "DECLINED" : nowState());

  function drawHead() {
    const now = nowState();
    titled(`${now === "INPUT_REQUIRED" ? "? " : ""}${line(job?.title, 60) || "Job"}`);
    title.textContent = job?.title || line(JSON.stringify(job?.task ?? ""), 120) || "A job";
    title.dir = "auto";
    const doing = run.hasEnded ? "" : run.now();
    // Of a job that a crash ended it is known until when it worked, and only later when that was noticed.
    const spent = !job ? null : now === "INTERRUPTED" && run.workedUntil > 0 ? run.workedUntil * 1000 - Date.parse(job.start_time) : took(job);
    fill(stateLine, state(shownState()), doing && h("span", { class: "quiet" }, doing), spent !== null && h("span", { class: "quiet", id: "took" }, duration(spent)),
      job?.queue_position && now === "QUEUED" && h("span", { class: "quiet" }, `place ${job.queue_position} in the queue`));
  }

  function drawActs() {
    const now = nowState();
    fill(acts,
      !hasEnded(now) && h("button", { type: "button", class: "destroys", id: "cancel", onclick: doing(async () => {
        if (await confirmed("Cancel this job? What it does now is ended.", "Cancel job")) await cancel(jobId);
      }) }, "Cancel job"),
      hasEnded(now) && job?.task && h("button", { type: "button", id: "again", onclick: doing(() => submit(taskOf(job), optionsOf(job))) }, "Run again"),
      hasEnded(now) && job?.task && h("button", { type: "button", onclick: () => edit(job) }, "Change and run"),
      hasEnded(now) && h("button", { type: "button", class: "destroys", onclick: doing(async () => {
        if (!(await confirmed("Delete this job and its events?", "Delete job"))) return;
        await remove(jobId);
        gone();
        location.hash = `#/${suffix()}`;
      }) }, "Delete job"),
      job?.task && copyMenu("Copy task as", () => taskForms({ ...taskOf(job), ...optionsOf(job) })),
      copyMenu("Copy watching as", () => watchForms(jobId)));
  }

  function drawQuestion() {
    const asked = run.question ?? (nowState() === "INPUT_REQUIRED" ? job?.question : null);
    if (!asked) {
      shownQuestion = "";
      question.hidden = true;
      return;
    }
    if (shownQuestion === asked.input_id) return;
    const isFurther = question.contains(document.activeElement) || hasAnswered;
    hasAnswered = false;
    shownQuestion = asked.input_id;
    question.hidden = false;
    const failed = h("p", { class: "wrong", role: "alert", hidden: true });
    const until = Date.parse(asked.expire_time);
    fill(question, h("h2", { id: "question-title" }, "The job asks"), h("p", { class: "text", dir: "auto" }, plain(String(asked.prompt ?? "").slice(0, 20_000))),
      answerForm(asked.schema, async (value) => {
        failed.hidden = true;
        // Before the call: the next question may be here sooner than the answer to the call.
        const words = typed.get();
        typed.set("");
        hasAnswered = true;
        run.answers.set(asked.input_id, value === null ? "nothing" : typeof value === "string" ? value : JSON.stringify(value));
        try {
          await post(`api/v1/jobs/${jobId}/input`, { input_id: asked.input_id, value });
        } catch (error) {
          run.answers.delete(asked.input_id);
          if (shownQuestion === asked.input_id) {
            hasAnswered = false;
            typed.set(words);
          }
          failed.hidden = false;
          failed.textContent = inWords(error);
        }
      }), failed,
      !Number.isNaN(until) && h("small", null, `Without an answer by ${new Date(until).toLocaleTimeString()}, ${asked.default_value === null || asked.default_value === undefined ? "the answer is none" : `it is ${line(JSON.stringify(asked.default_value), 80)}`}.`));
    const field = /** @type {HTMLTextAreaElement | null} */ (question.querySelector("textarea"));
    if (field) {
      field.value = typed.get();
      field.addEventListener("input", () => typed.set(field.value));
    }
    // Whoever has just answered goes on writing.
    if (isFurther) /** @type {HTMLElement | null} */ (question.querySelector("textarea, input, button"))?.focus({ preventScroll: true });
    announce("The job asks a question.");
    if (timeline.follows) timeline.draw();
  }

  function drawFacts() {
    const options = job?.options ?? {};
    const usage = run.usage ?? job?.usage ?? {};
    /** @type {[string, any][]} */
    const facts = [
      ["State", state(shownState())],
      ["Created", job && ago(job.create_time)],
      ["Ended", job?.end_time && ago(job.end_time)],
      ["Caller", job?.caller && line(job.caller, 80)],
      ["Door", job?.door],
      ["Engine", run.engine],
      ["Model", run.model && line(run.model, 80)],
      ["Conversation", options.conversation_id && h("a", { href: `#/conversations/${encodeURIComponent(options.conversation_id)}` }, line(options.conversation_id, 60))],
      ["Labels", Object.keys(options.labels ?? {}).length > 0 && Object.entries(options.labels).map(([key, value]) => h("div", null, line(`${key}: ${value}`, 80)))],
      ["Time limit", options.timeout_seconds > 0 && duration(options.timeout_seconds * 1000)],
      ["Most steps", options.max_steps > 0 && count(options.max_steps)],
      ["Most tokens", options.max_total_tokens > 0 && count(options.max_total_tokens)],
      ["Most cost", options.max_cost && `$${options.max_cost}`],
      ["Tokens read", usage.input_tokens !== undefined && count(usage.input_tokens)],
      ["… of them cached", usage.cached_input_tokens ? count(usage.cached_input_tokens) : null],
      ["Tokens written", usage.output_tokens !== undefined && count(usage.output_tokens)],
      ["Cost", usage.cost && `$${usage.cost}${usage.cost_basis === "INCOMPLETE" ? " and more" : ""}`],
      ["Tool calls", run.calls > 0 && count(run.calls)],
      ["Events", count(run.last)],
      ["Kept until", job?.expire_time && new Date(job.expire_time).toLocaleString()],
    ];
    fill(right, h("h2", null, "Facts"), h("dl", { class: "facts" }, facts.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)])),
      h("div", { class: "buttons" }, copyButton("Copy id", () => jobId)),
      run.unknown > 0 && h("p", { class: "quiet" }, `${run.unknown} events are of a kind that this page does not know.`));
  }

  function draw() {
    drawHead();
    drawActs();
    drawQuestion();
    drawFacts();
    empty.hidden = run.rows.length > 0;
    timeline.draw();
  }

  async function readJob() {
    try {
      job = await get(`api/v1/jobs/${jobId}`);
      draw();
    } catch (error) {
      if (/** @type {any} */ (error).status !== 404) return;
      isGone = true;
      right.hidden = true;
      gone();
      titled("No such job");
      fill(main, h("h1", null, "There is no such job"), h("p", null, "It was deleted, its time was over, or it is somebody else's. "), h("p", null, h("a", { href: `#/${suffix()}` }, "New task")));
    }
  }

  /** Takes events for a few milliseconds, draws, and goes on in the next frame. */
  function take() {
    isScheduled = false;
    if (isGone) return;
    const before = nowState();
    const until = performance.now() + SLICE;
    while (waiting.length > 0 && performance.now() < until) {
      const batch = waiting[0] ?? [];
      while (batch.length > 0 && performance.now() < until) run.apply(batch.shift());
      if (batch.length === 0) waiting.shift();
    }
    const after = nowState();
    if (waiting.length > 0) schedule();
    drawHead();
    if (after !== before) {
      drawActs();
      if (hasEnded(after)) {
        announce(`The job has ended: ${stateInWords(shownState())}.`);
        void readJob();
      }
    }
    drawQuestion();
    empty.hidden = run.rows.length > 0;
    // While much is to be taken, the end is what counts.
    timeline.draw();
    if (waiting.length === 0) {
      drawFacts();
      if (sequence > 0 && (run.last >= sequence || run.hasEnded)) {
        timeline.show(sequence);
        sequence = 0;
      }
    }
  }

  function schedule() {
    if (isScheduled) return;
    isScheduled = true;
    // A hidden tab draws no frames; what arrives there is taken all the same.
    if (document.hidden) setTimeout(take, 50);
    else requestAnimationFrame(take);
  }

  let ticks = 0;
  const clock = setInterval(() => {
    if (document.hidden || isGone) return;
    ticks += 1;
    if (!hasEnded(nowState())) drawHead();
    if (ticks % 10 === 0) drawFacts();
  }, 1000);
  const look = () => { if (!document.hidden && !isGone) void readJob(); };
  document.addEventListener("visibilitychange", look);
  void readJob();
  drawHead();
  drawFacts();
  send({ type: "follow", jobId, last: 0 });

  return {
    hear(message) {
      if (message.type === "again") void readJob();
      if (message.type === "events" && message.jobId === jobId) {
        for (let from = 0; from < message.events.length; from += 200) waiting.push(message.events.slice(from, from + 200));
        schedule();
      }
      if (message.type === "gone" && message.jobId === jobId) void readJob();
      if (message.type === "jobs" && message.jobs.some((/** @type {any} */ one) => one.job_id === jobId) && (!job || !hasEnded(job.state))) void readJob();
    },
    leave() {
      isGone = true;
      document.removeEventListener("visibilitychange", look);
      clearInterval(clock);
      right.hidden = true;
      fill(right);
      send({ type: "follow", jobId: null, last: 0 });
    },
  };
}
