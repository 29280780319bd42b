// @ts-check
// The JSON door, as this page uses it. Addresses are relative, so that they hold behind a proxy that adds a path.

/** The address of the gateway, with a slash at its end. */
export const base = new URL(".", globalThis.document ? document.baseURI : new URL("..", import.meta.url)).href;

/** How far the gateway's clock is ahead of this one, in milliseconds. */
let ahead = 0;

/** The gateway's time, in milliseconds since 1970. */
export const now = () => Date.now() + ahead;

/** A refusal, as a problem document says it. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {any} document
   * @param {number | null} retryAfter
   */
  constructor(status, document, retryAfter) {
    super(document.detail ?? document.title ?? `the gateway answered ${status}`);
    this.status = status;
    /** The stable reason, or an empty text. */
    this.reason = typeof document.reason === "string" ? document.reason : "";
    /** The field that is wrong, where one is. */
    this.field = typeof document.field === "string" ? document.field : "";
    this.retryAfter = retryAfter;
  }
}

/**
 * Calls the gateway and returns its JSON answer; null for an empty one.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function call(method, path, body) {
  /** @type {Response} */
  let response;
  try {
    response = await fetch(base + path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    const what = method === "GET" ? "" : " It is not known whether this was taken.";
    throw new Problem(0, { detail: `The gateway does not answer.${what}` }, null);
  }
  const date = Date.parse(response.headers.get("date") ?? "");
  // The header has whole seconds.
  if (!Number.isNaN(date) && Math.abs(date - Date.now()) > 2000) ahead = date - Date.now();
  const text = await response.text();
  let document = null;
  try {
    document = text === "" ? null : JSON.parse(text);
  } catch {
    document = { detail: text.slice(0, 300) };
  }
  if (!response.ok) throw new Problem(response.status, document ?? {}, Number(response.headers.get("retry-after")) || null);
  return document;
}

/** @param {string} path */
export const get = (path) => call("GET", path);
/**
 * @param {string} path
 * @param {unknown} body
 */
export const post = (path, body) => call("POST", path, body);

/**
 * A refusal in words, with what to do.
 * @param {any} error
 */
export function inWords(error) {
  if (!(error instanceof Problem)) return String(error?.message ?? error);
  const when = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  return `${error.message}${when}`;
}

/** @type {Promise<any[]> | null} */
let tools = null;
/** The tools with their schemas; asked for once. */
export function allTools() {
  tools ??= get("api/v1/tools").then((answer) => answer.tools, (error) => { tools = null; throw error; });
  return tools;
}

/** The agents, of every page. */
export async function allAgents() {
  const agents = [];
  let token = "";
  do {
    const page = await get(`api/v1/agents?page_token=${encodeURIComponent(token)}`);
    agents.push(...page.agents);
    token = page.next_page_token ?? "";
  } while (token !== "" && agents.length < 2000);
  return agents;
}
