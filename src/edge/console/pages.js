// @ts-check
// The pages beside a run: the first one, agents, tools, conversations, the gateway itself.

import { allAgents, allTools, base, call, get, inWords, now } from "./api.js";
import { copyMenu, taskForms } from "./copy.js";
import { confirmed, copyButton, fill, h, put } from "./dom.js";
import { objectForm } from "./form.js";
import { suffix } from "./address.js";
import { draft, submit } from "./tasks.js";
import { line } from "./text.js";
import { ago, count, duration, size, state, took } from "./words.js";

/** What could not be read; pages with one are read again when the gateway is back. @param {any} error */
const failure = (error) => h("p", { class: "wrong unread", role: "alert" }, inWords(error));

/**
 * A form that submits a task.
 * @param {() => any} task Throws a sentence for what is wrong.
 * @param {any[]} fields
 * @param {string} act
 * @param {() => any} [options]
 * @param {ReturnType<typeof draft>} [typed] Forgotten once the task is submitted.
 */
function taskForm(task, fields, act, options = () => ({}), typed = draft("")) {
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const button = h("button", { class: "first" }, act);
  const form = h("form", { onsubmit: async (/** @type {Event} */ event) => {
    event.preventDefault();
    wrong.hidden = true;
    button.disabled = true;
    try {
      const given = task();
      await submit(given, options());
      typed.set("");
    } catch (error) {
      wrong.hidden = false;
      wrong.textContent = inWords(error);
    }
    button.disabled = false;
  }, onkeydown: (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  } }, fields, wrong, h("div", { class: "buttons" }, button, copyMenu("Copy as", () => taskForms({ ...task(), ...options() }))));
  return form;
}

/**
 * The first page; with a conversation, that one's.
 * @param {HTMLElement} main
 * @param {string} [conversation]
 */
export async function homePage(main, conversation = "") {
  const typed = draft(conversation ? `#/conversations/${conversation}` : "#/");
  const command = h("textarea", { id: "command", "aria-label": "Task", placeholder: "Say it in your own words, or write a command line", required: true, value: typed.get(), oninput: () => typed.set(command.value) });
  const examples = ["list the agents", "show the system configuration", "ask CodeReviewer_Agent: fn main() { loop {} }"];
  const about = h("div", null);
  const agents = h("ul", { class: "chips", "aria-label": "Agents" });
  const form = taskForm(() => {
    if (command.value.trim() === "") {
      command.focus();
      throw new Error("Say what is to be done.");
    }
    return { command: command.value };
  }, [command], "Run", () => (conversation ? { conversation_id: conversation } : {}), typed);
  fill(main, h("h1", null, conversation ? `Conversation ${line(conversation, 130)}` : "What is to be done?"),
    conversation && h("p", null, "What is run here remembers what was said under this id before. Its jobs are listed beside it."), form,
    h("p", null, "Run one of these: "), h("ul", { class: "chips" }, examples.map((example) => h("li", null, h("button", { type: "button", class: "chip", onclick: () => {
      command.value = example;
      form.requestSubmit();
    } }, example)))),
    h("p", null, "Or ask one agent, without planning: "), agents, about);
  command.focus();
  const further = conversation ? `?conversation=${encodeURIComponent(conversation)}` : suffix();
  await Promise.all([
    allAgents().then((found) => fill(agents, found.slice(0, 24).map((agent) => h("li", null, h("a", { class: "chip", href: `#/agents/${agent.agent_id}${further}`, title: line(agent.description, 300) }, agent.agent_id))),
      found.length > 24 && h("li", null, h("a", { class: "chip", href: "#/agents" }, `all ${found.length}`)),
      found.length === 0 && h("li", null, "The engine has none. “install all templates” gives some.")), (error) => fill(agents, failure(error))),
    get("api/v1/info").then((info) => fill(about, modelInWords(info, true)), (error) => fill(about, failure(error))),
  ]);
}

/**
 * Which model plans, or why there is none and what gives one.
 * @param {any} info
 * @param {boolean} [isOpen]
 */
function modelInWords(info, isOpen = false) {
  if (info.model) return h("p", { class: "quiet" }, `Commands are planned by ${line(info.model, 80)} (${line(info.provider, 40)}), with the ${info.engine} engine.`);
  const lines = "export OPENAI_API_KEY=…        # or ANTHROPIC_API_KEY, GEMINI_API_KEY\nexport AGENT_MODEL=…           # optional: which model\nconductor-gateway serve\n\n# or a model of this machine:\nAGENT_PROVIDER=openai AGENT_BASE_URL=http://localhost:11434/v1 AGENT_MODEL=… conductor-gateway serve";
  return h("details", { open: isOpen }, h("summary", null, "There is no model, so that only some commands are understood"),
    h("p", null, `${line(info.planner_reason, 300)}. Tools and agents can be run all the same. A model is given so:`), h("pre", { class: "block", tabindex: "0" }, lines), copyButton("Copy", () => lines));
}

/** @param {HTMLElement} main @param {string} name */
export async function agentsPage(main, name) {
  fill(main, h("h1", null, name ? line(name, 130) : "Agents"));
  let agents;
  try {
    agents = await allAgents();
  } catch (error) {
    return put(main, failure(error));
  }
  if (!name) {
    return put(main, agents.length === 0 && h("p", null, "The engine has no agents. Run “install all templates” to get some."),
      h("ul", { class: "entries" }, agents.slice(0, 200).map((agent) => h("li", null, h("a", { href: `#/agents/${agent.agent_id}` }, agent.agent_id), h("p", null, line(agent.description, 300))))),
      agents.length > 200 && h("p", { class: "quiet" }, `and ${agents.length - 200} more`));
  }
  const agent = agents.find((one) => one.agent_id === name);
  if (!agent) return put(main, h("p", null, "The engine has no such agent. "), h("a", { href: "#/agents" }, "All agents"));
  const typed = draft(`#/agents/${name}`);
  const input = h("textarea", { id: "input", required: true, value: typed.get(), oninput: () => typed.set(input.value) });
  const given = new URLSearchParams(suffix()).get("conversation") ?? "";
  const conversation = h("input", { id: "conversation", autocomplete: "off", value: given, pattern: "[A-Za-z0-9][A-Za-z0-9_\\-]{0,127}" });
  put(main, h("p", null, line(agent.description, 1000)),
    taskForm(() => {
      if (input.value === "") throw new Error("Say what the agent is told.");
      return { agent_id: agent.agent_id, input_text: input.value };
    }, [h("label", { for: "input" }, "What the agent is told"), input,
      h("details", { open: given !== "" }, h("summary", null, "Optional (1)"), h("label", { for: "conversation" }, "Conversation"), conversation, h("span", { class: "help" }, "With an id the agent remembers what was said under it; without one it remembers nothing."))],
    "Run agent", () => (conversation.value ? { conversation_id: conversation.value } : {}), typed),
    h("h2", null, "About it"),
    h("dl", { class: "facts" }, /** @type {[string, any][]} */ ([["Version", agent.version], ["Author", agent.author], ["Tags", agent.tags?.join(", ")], ["Can", agent.capabilities?.join(", ")]])
      .filter(([, value]) => value).flatMap(([key, value]) => [h("dt", null, key), h("dd", null, line(value, 500))])));
  input.focus();
}

/** @param {any} tool */
function toolInWords(tool) {
  const words = [tool.is_read_only ? "changes nothing" : tool.is_destructive ? "may remove or overwrite something" : "changes something", tool.is_open_world && "reaches beyond the workspace"];
  return words.filter(Boolean).join("; ");
}

/** @param {HTMLElement} main @param {string} name */
export async function toolsPage(main, name) {
  fill(main, h("h1", null, name ? line(name, 130) : "Tools"));
  let tools;
  try {
    tools = await allTools();
  } catch (error) {
    return put(main, failure(error));
  }
  if (!name) {
    return put(main, h("ul", { class: "entries" }, tools.map((tool) => h("li", null, h("a", { href: `#/tools/${tool.name}` }, tool.title || tool.name), " ", h("code", null, tool.name), h("p", null, line(tool.description, 300))))));
  }
  const tool = tools.find((one) => one.name === name);
  if (!tool) return put(main, h("p", null, "There is no such tool. "), h("a", { href: "#/tools" }, "All tools"));
  const agents = await allAgents().catch(() => []);
  const typed = draft(`#/tools/${name}`);
  let initial = {};
  try {
    initial = JSON.parse(typed.get() || "{}");
  } catch {
    // What was kept is of another build.
  }
  const form = objectForm(tool.input_schema ?? {}, { agents: agents.map((agent) => agent.agent_id), initial });
  fill(main, h("h1", null, line(tool.title || tool.name, 130)), h("p", null, h("code", null, tool.name)));
  put(main, h("p", null, line(tool.description, 1000)), h("p", { class: "quiet" }, `It ${toolInWords(tool)}.`),
    h("fieldset", { class: tool.is_destructive ? "destroys" : "" }, h("legend", { class: "heard-only" }, "Arguments"),
      taskForm(() => ({ tool: tool.name, arguments: form.read() }), [form.element], tool.title || `Run ${tool.name}`, () => ({}), typed)),
    h("details", null, h("summary", null, "Schemas"), h("pre", { class: "block", tabindex: "0" }, JSON.stringify({ arguments: tool.input_schema, result: tool.output_schema }, null, 2))));
}

/** @param {HTMLElement} main @param {string} token */
export async function conversationsPage(main, token = "") {
  fill(main, h("h1", null, "Conversations"));
  try {
    const page = await get(`api/v1/conversations?page_size=50&page_token=${encodeURIComponent(token)}`);
    if (page.conversations.length === 0) {
      return put(main, h("p", null, "What you say to agents under a conversation's id is listed here. Run an agent with one, or a command:"), h("p", null, h("a", { href: "#/agents" }, "Agents")));
    }
    put(main, h("div", { class: "scroll" }, h("table", null, h("thead", null, h("tr", null, ["Conversation", "Last used", "Exchanges", "Agents"].map((name, index) => h("th", { class: index === 2 ? "number" : "", scope: "col" }, name)), h("th", null, h("span", { class: "heard-only" }, "Acts")))),
      h("tbody", null, page.conversations.map((/** @type {any} */ one) => h("tr", null, h("td", null, h("a", { href: `#/conversations/${encodeURIComponent(one.conversation_id)}` }, line(one.conversation_id, 80))), h("td", null, ago(one.update_time)),
        h("td", { class: "number" }, count(one.exchanges ?? 0)), h("td", null, (one.agents ?? []).map((/** @type {any} */ agent) => h("div", null, `${line(agent.agent_id, 60)} (${agent.interactions})`))),
        h("td", null, h("button", { type: "button", class: "destroys", "aria-label": `Delete ${line(one.conversation_id, 80)}`, onclick: async () => {
          if (!(await confirmed(`Delete the conversation ${line(one.conversation_id, 80)} and everything that was said in it?`, "Delete conversation"))) return;
          try {
            await call("DELETE", `api/v1/conversations/${encodeURIComponent(one.conversation_id)}`);
            await conversationsPage(main, token);
          } catch (error) {
            put(main, failure(error));
          }
        } }, "Delete"))))))),
      page.next_page_token && h("button", { type: "button", onclick: () => conversationsPage(main, page.next_page_token) }, "Older"));
  } catch (error) {
    put(main, failure(error));
  }
}

/**
 * The gateway's own state, read again every two seconds while it is looked at.
 * @param {HTMLElement} main
 * @returns {() => void} Ends it.
 */
export function gatewayPage(main) {
  const place = h("div", null);
  fill(main, h("h1", null, "Gateway"), place);
  let isLeft = false;
  let isFolded = true;
  const draw = async () => {
    try {
      const [info, ready, running, queued, asking] = await Promise.all([
        get("api/v1/info"), get("health/ready").catch((error) => ({ status: error.message })), jobsIn("running"), jobsIn("queued"), jobsIn("input_required"),
      ]);
      if (isLeft) return;
      const fact = (/** @type {string} */ name, /** @type {any} */ value) => (value === "" || value === null || value === undefined || Number.isNaN(value) ? [] : [h("dt", null, name), h("dd", null, value)]);
      const { limits } = info;
      fill(place,
        h("dl", { class: "facts" },
          fact("State", ready.status === "ready" ? "ready" : h("span", { class: "wrong" }, line(ready.status, 300))),
          fact("Jobs of all callers", `${count(info.running_jobs)} have begun and not ended, ${count(info.queued_jobs)} wait for their turn`),
          fact("Engine", info.engine), fact("Model", info.model ? `${line(info.model, 80)} (${line(info.provider, 40)})` : "none"), fact("Why", line(info.planner_reason, 300)),
          fact("Version", info.version)),
        !info.model && modelInWords(info),
        section("Your questions that are open", asking), section("Your jobs at work", running), section("Your jobs that wait", queued),
        h("h2", null, "Doors"),
        h("dl", { class: "facts" }, fact("gRPC, grpc-web, JSON, events", h("code", null, base.replace(/\/$/u, ""))), fact("MCP", info.mcp_url ? h("code", null, info.mcp_url) : "off"),
          fact("API", [h("a", { href: `${base}docs` }, "reference"), ", ", h("a", { href: `${base}openapi.json` }, "OpenAPI"), ", ", h("a", { href: `${base}docs/errors` }, "errors")]), fact("Metrics", h("a", { href: `${base}metrics` }, "metrics"))),
        h("details", { open: !isFolded, ontoggle: (/** @type {any} */ event) => { isFolded = !event.target.open; } }, h("summary", null, "Limits"),
          h("dl", { class: "facts" }, Object.entries(limits).flatMap(([name, value]) => fact(name.replace(/^max_/u, "").replace(/_bytes$/u, "").replaceAll("_", " "), size(Number(value)))))));
    } catch (error) {
      // What is on the screen stays; the line above says since when.
      if (!isLeft && !place.hasChildNodes()) fill(place, failure(error));
    }
  };
  void draw();
  const timer = setInterval(() => { if (!document.hidden) void draw(); }, 2000);
  return () => {
    isLeft = true;
    clearInterval(timer);
  };
}

/** @param {string} name */
const jobsIn = (name) => get(`api/v1/jobs?state=${name}&page_size=20`);

/**
 * @param {string} title
 * @param {any} page
 */
function section(title, page) {
  if (page.jobs.length === 0) return null;
  return [h("h2", null, `${title} (${page.jobs.length}${page.next_page_token ? " and more" : ""})`), h("div", { class: "scroll" }, h("table", null,
    h("thead", null, h("tr", null, ["Job", "Caller", "State", "For"].map((name, index) => h("th", { scope: "col", class: index === 3 ? "number" : "" }, name)))),
    h("tbody", null, page.jobs.map((/** @type {any} */ job) => h("tr", null, h("td", null, h("a", { href: `#/jobs/${job.job_id}` }, line(job.title || job.job_id, 100))), h("td", null, line(job.caller, 40)),
      h("td", null, state(job.state)), h("td", { class: "number" }, duration(took(job) ?? now() - Date.parse(job.create_time))))))))];
}
