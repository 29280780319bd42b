// @ts-check
// The frame: addresses, the sections, the keys, the line about the connection, notifications.

import { filterOf, suffix } from "./address.js";
import { base, get, now } from "./api.js";
import { announce, fill, h } from "./dom.js";
import { connect } from "./hub.js";
import { JobList } from "./list.js";
import { agentsPage, conversationsPage, gatewayPage, homePage, toolsPage } from "./pages.js";
import { runView } from "./run.js";
import { hasEnded, stateInWords } from "./words.js";
import { line } from "./text.js";

const element = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const main = element("main");
const right = element("right");
const left = element("left");
const columns = /** @type {HTMLElement} */ (document.querySelector(".columns"));

const SECTIONS = [["New task", "#/"], ["Agents", "#/agents"], ["Tools", "#/tools"], ["Conversations", "#/conversations"], ["Gateway", "#/gateway"]];
const KEYS = [["j, k", "the next, the previous job of the list"], ["Enter", "open it"], ["/", "find a job"], ["n", "a new task"], ["g", "the gateway's state"], ["c", "cancel the job that is open"], ["e", "go to the end of the timeline"], ["Ctrl Enter", "run what was typed"], ["?", "these keys"], ["Esc", "close, or leave a field"]];

/** @type {{hear?: (message: any) => void, leave?: () => void}} */
let view = {};
let path = "none yet";

const list = new JobList(left, ({ text, state }) => {
  const query = filterOf();
  for (const [key, value] of [["text", text], ["state", state]]) value ? query.set(key ?? "", value) : query.delete(key ?? "");
  const place = location.hash.split("?")[0] || "#/";
  history.replaceState(null, "", query.size > 0 ? `${place}?${query}` : place);
  filter(query);
});

/** @param {URLSearchParams} query */
function filter(query) {
  list.show({ text: query.get("text") ?? "", state: query.get("state") ?? "", conversation: query.get("conversation") ?? "", label: query.get("label") ?? "" });
}

const send = connect(base, (message) => {
  if (message.type === "connection") connection(message);
  if (message.type === "again") {
    void list.read();
    void lookForQuestions();
    // Pages that could not be read are read now.
    if (main.querySelector(".unread")) route(true);
  }
  if (message.type === "jobs" && message.jobs.some((/** @type {any} */ job) => asking.has(job.job_id) !== (job.state === "INPUT_REQUIRED"))) void lookForQuestions();
  if (message.type === "jobs") for (const { job, before } of list.update(message.jobs)) notice(job, before);
  view.hear?.(message);
});

/** The jobs of the caller that wait for an answer, as far as a page of them says. @type {Set<string>} */
let asking = new Set();
async function lookForQuestions() {
  const page = await get("api/v1/jobs?state=input_required&page_size=100").catch(() => null);
  if (!page) return;
  asking = new Set(page.jobs.map((/** @type {any} */ job) => job.job_id));
  const place = element("asking");
  const first = page.jobs[0]?.job_id;
  place.hidden = !first;
  place.textContent = asking.size === 1 ? "1 waits for you" : `${asking.size}${page.next_page_token ? " and more" : ""} wait for you`;
  place.setAttribute("href", asking.size === 1 ? `#/jobs/${first}` : `#/jobs/${first}?state=input_required`);
}

/** @param {boolean} [again] Whether the page is drawn anew. */
function route(again = false) {
  const [place = ""] = location.hash.replace(/^#/u, "").split("?");
  const query = filterOf();
  filter(query);
  // The sections keep the filter.
  for (const link of element("sections").querySelectorAll("a")) link.setAttribute("href", `${(link.getAttribute("href") ?? "").split("?")[0]}${suffix()}`);
  const [, section = "", name = ""] = place.split("/");
  for (const link of element("sections").querySelectorAll("a")) {
    const isHere = (link.getAttribute("href") ?? "").split("?")[0] === `#/${section}`;
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (place === path && !again) return;
  path = place;
  view.leave?.();
  view = {};
  left.classList.remove("is-open");
  element("open-list").setAttribute("aria-expanded", "false");
  main.scrollTop = 0;
  right.hidden = true;
  let jobId = "";
  let title = SECTIONS.find(([, href]) => href === `#/${section}`)?.[0] ?? "Job";
  let decoded = name;
  try {
    decoded = decodeURIComponent(name);
  } catch {
    // As it stands, then: no such thing will be found.
  }
  if (section === "jobs" && name !== "") {
    const [id = "", sequence = "0"] = decoded.split("@");
    jobId = /^[A-Za-z0-9_-]{1,128}$/u.test(id) ? id : "unknown";
    const titled = (/** @type {string} */ title) => {
      pageTitle = title;
      mark();
    };
    view = runView({ main, right, jobId, sequence: Number(sequence) || 0, send, titled, gone: () => void list.read() });
  } else if (section === "agents") void agentsPage(main, decoded);
  else if (section === "tools") void toolsPage(main, decoded);
  else if (section === "conversations" && decoded) {
    list.show({ text: "", state: "", conversation: decoded, label: "" });
    void homePage(main, decoded);
  } else if (section === "conversations") void conversationsPage(main);
  else if (section === "gateway") view = { leave: gatewayPage(main) };
  else if (section === "") {
    title = "New task";
    void homePage(main, query.get("conversation") ?? "");
  } else {
    title = "No such page";
    fill(main, h("h1", null, "There is no such page"), h("p", null, h("a", { href: "#/" }, "New task")));
  }
  columns.classList.toggle("without-right", jobId === "");
  list.select(jobId);
  if (jobId === "") pageTitle = title;
  mark();
}

// What happened while nobody looked, and the title's mark.
let pageTitle = "";
let unseen = 0;
function mark() {
  document.title = `${unseen > 0 ? `(${unseen}) ` : ""}${pageTitle} · Conductor Gateway`;
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    unseen = 0;
    mark();
  }
});

/** When this page was opened: what ended before is no news. */
const openedAt = now();

/**
 * Says that a job asks or has ended, to whoever does not look.
 * @param {any} job
 * @param {string} before
 */
function notice(job, before) {
  const asks = job.state === "INPUT_REQUIRED";
  if (!document.hidden || before === job.state || !asks && !hasEnded(job.state)) return;
  if (Date.parse(asks ? job.question?.expire_time : job.end_time) < openedAt) return;
  unseen += 1;
  mark();
  if (globalThis.Notification?.permission !== "granted") return;
  try {
    const what = asks ? `asks: ${line(job.question?.prompt, 200)}` : stateInWords(job.state);
    const shown = new Notification(line(job.title || "A job", 80), { body: what, tag: `${job.job_id} ${job.state}`, icon: "console/icon.svg" });
    shown.onclick = () => {
      focus();
      location.hash = `#/jobs/${job.job_id}`;
      shown.close();
    };
  } catch {
    // Some browsers show notifications to workers only; the title's mark is there all the same.
  }
}

const notify = element("notify");
function offerNotifications() {
  notify.hidden = globalThis.Notification?.permission !== "default" || !globalThis.isSecureContext;
}
notify.addEventListener("click", async () => {
  await Notification.requestPermission();
  offerNotifications();
});

/** @param {any} message */
function connection({ isOpen, since, status }) {
  const place = element("connection");
  const wasLost = place.classList.contains("lost");
  if (!isOpen) {
    place.hidden = false;
    place.className = "connection lost";
    const why = status ? `The gateway answers ${status} to this page's stream.` : "The gateway does not answer.";
    place.textContent = `${why} What is here is as of ${new Date(since).toLocaleTimeString()}; it is tried again.`;
  } else if (wasLost) {
    place.className = "connection back";
    place.textContent = "Connected again; nothing was missed.";
    setTimeout(() => { if (place.classList.contains("back")) place.hidden = true; }, 4000);
  }
}

fill(element("sections"), SECTIONS.map(([name, href]) => h("a", { href }, name)));
const keys = /** @type {HTMLDialogElement} */ (element("keys"));
fill(keys, h("h2", { id: "keys-title" }, "Keys"), h("dl", { class: "facts" }, KEYS.flatMap(([key, text]) => [h("dt", null, h("kbd", null, key)), h("dd", null, text)])),
  h("form", { method: "dialog" }, h("button", { class: "first" }, "Close")));
element("keys-button").addEventListener("click", () => keys.showModal());
element("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
element("open-list").addEventListener("click", () => {
  const isOpen = left.classList.toggle("is-open");
  element("open-list").setAttribute("aria-expanded", String(isOpen));
});

addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const types = target.closest("input, textarea, select");
  if (event.key === "Escape" && types) /** @type {HTMLElement} */ (types).blur();
  if (types || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const act = /** @type {Record<string, () => void>} */ ({
    j: () => list.step(1),
    k: () => list.step(-1),
    "/": () => { left.classList.add("is-open"); element("filter").focus(); },
    n: () => { location.hash = "#/"; element("command")?.focus(); },
    g: () => { location.hash = "#/gateway"; },
    c: () => document.getElementById("cancel")?.click(),
    e: () => /** @type {HTMLElement | null} */ (document.querySelector(".follow"))?.click(),
    "?": () => keys.showModal(),
  })[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

addEventListener("hashchange", () => route());
offerNotifications();
void lookForQuestions();
route();
announce("");
