// @ts-check
// The reference of the API: what openapi.json says, for people, with requests to try.

import { base, get, inWords } from "./api.js";
import { copyButton, fill, h, put } from "./dom.js";
import { objectForm } from "./form.js";
import { inline } from "./markdown.js";
import { plain } from "./text.js";

/** How much of an answer is shown. */
const SHOWN = 20_000;
/** How long a stream of events is read. */
const WATCHED = 10_000;

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const left = /** @type {HTMLElement} */ (document.getElementById("left"));

/**
 * @param {any} document
 * @param {any} schema
 * @returns {any}
 */
function resolved(document, schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? document.components.schemas[name] ?? {} : schema ?? {};
}

/**
 * A schema's type in a word, with a link where it has a name.
 * @param {any} schema
 * @returns {any}
 */
function kind(schema) {
  const name = schema?.$ref?.split("/").pop();
  if (name) return h("a", { href: `#${name}` }, name);
  if (schema?.type === "array") return ["list of ", kind(schema.items)];
  if (schema?.contentSchema) return ["events of ", kind(schema.contentSchema)];
  if (schema?.const !== undefined) return h("code", null, JSON.stringify(schema.const));
  if (schema?.type === "object" && schema.additionalProperties) return ["map of ", kind(schema.additionalProperties)];
  if (Array.isArray(schema?.type)) return schema.type.join(" or ");
  return schema?.type ?? "any";
}

/** @param {any} schema */
function members(schema) {
  const required = new Set(schema.required ?? []);
  return h("dl", { class: "facts" }, Object.entries(schema.properties ?? {}).flatMap(([name, one]) => [
    h("dt", null, h("code", null, name), " ", h("small", null, kind(one), required.has(name) ? "" : ", may be absent")),
    h("dd", null, inline(one.description ?? ""), one.enum && one.enum.length < 20 && [" ", h("code", null, one.enum.join(" | "))])]));
}

/**
 * A form that sends the request, and shows its answer.
 * @param {any} document
 * @param {string} method
 * @param {string} path
 * @param {any} operation
 */
function tryIt(document, method, path, operation) {
  const parameters = operation.parameters ?? [];
  const properties = Object.fromEntries(parameters.map((/** @type {any} */ one) => [one.name, { ...one.schema, description: one.description }]));
  const form = objectForm({ properties, required: parameters.filter((/** @type {any} */ one) => one.required).map((/** @type {any} */ one) => one.name) });
  const bodySchema = resolved(document, operation.requestBody?.content["application/json"]?.schema);
  const body = operation.requestBody && objectForm({ ...bodySchema, required: [] });
  const answer = h("div", { "aria-live": "polite" });
  /** @type {AbortController | null} */
  let running = null;
  const request = () => {
    const values = form.read();
    let address = path.replace(/^\//u, "").replace(/\{(\w+)\}/gu, (_, name) => encodeURIComponent(values[name] ?? ""));
    const query = new URLSearchParams();
    /** @type {Record<string, string>} */
    const headers = {};
    for (const one of parameters) {
      if (values[one.name] === undefined) continue;
      if (one.in === "query") query.set(one.name, String(values[one.name]));
      if (one.in === "header") headers[one.name] = String(values[one.name]);
    }
    if (query.size > 0) address += `?${query}`;
    const text = body ? JSON.stringify(body.read()) : undefined;
    if (text !== undefined) headers["content-type"] = "application/json";
    return { address: base + address, headers, text };
  };
  const quote = (/** @type {string} */ text) => `'${text.replaceAll("'", "'\\''")}'`;
  const curl = () => {
    const { address, headers, text } = request();
    return [`curl -sS${method === "get" ? "" : ` -X ${method.toUpperCase()}`} ${quote(address)}`, ...Object.entries(headers).map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`), ...(text === undefined ? [] : [`-d ${quote(text)}`])].join(" ");
  };
  const send = async (/** @type {Event} */ event) => {
    event.preventDefault();
    running?.abort();
    const abort = new AbortController();
    running = abort;
    try {
      const { address, headers, text } = request();
      const response = await fetch(address, { method: method.toUpperCase(), headers, body: text, signal: abort.signal });
      const status = h("p", null, h("strong", null, `${response.status}`), ` ${response.headers.get("content-type") ?? ""}`);
      const shown = h("pre", { class: "block", tabindex: "0", "aria-label": "Answer" });
      fill(answer, status, shown);
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      const timer = setTimeout(() => abort.abort(), WATCHED);
      let all = "";
      while (reader && all.length < SHOWN) {
        const { done, value } = await reader.read();
        if (done) break;
        all += value;
        shown.textContent = plain(all.slice(0, SHOWN));
      }
      clearTimeout(timer);
      abort.abort();
      try {
        if (all.length < SHOWN && /json/u.test(response.headers.get("content-type") ?? "")) shown.textContent = plain(JSON.stringify(JSON.parse(all), null, 2));
      } catch {
        // It stays as it came.
      }
    } catch (error) {
      if (!abort.signal.aborted) fill(answer, h("p", { class: "wrong", role: "alert" }, inWords(error)));
    }
  };
  const isPage = operation.tags?.[0] === "pages";
  if (isPage) return h("p", null, h("a", { href: base + path.replace(/^\//u, "").split("{")[0] }, "Open it"));
  return h("details", null, h("summary", null, "Try it"), h("form", { onsubmit: send }, form.element, body?.element, h("div", { class: "buttons" }, h("button", { class: method === "delete" ? "destroys" : "first" }, "Send"), copyButton("Copy as curl", curl))), answer);
}

async function draw() {
  /** @type {any} */
  const document = await get("openapi.json");
  fill(main, h("h1", null, "API reference"), h("p", null, inline(document.info.description)), h("p", null, "Refusals that every call may give: ", h("a", { href: "#Problem" }, "Problem"), "."));
  /** @type {any[]} */
  const index = [];
  for (const tag of document.tags) {
    const found = Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(/** @type {any} */ (methods)).map(([method, operation]) => ({ path, method, operation }))).filter(({ operation }) => operation.tags.includes(tag.name));
    if (found.length === 0) continue;
    put(main, h("h2", { id: tag.name }, tag.name), h("p", { class: "quiet" }, tag.description));
    index.push(h("strong", null, tag.name));
    const links = h("ul", { class: "jobs" });
    index.push(links);
    for (const { path, method, operation } of found) {
      links.append(h("li", null, h("a", { href: `#${operation.operationId}` }, h("span", { class: "title" }, operation.operationId))));
      put(main, h("section", { class: "card", id: operation.operationId, "aria-label": operation.operationId },
        h("h3", null, h("code", null, `${method.toUpperCase()} ${path}`), operation.deprecated && h("small", null, " deprecated")), h("p", null, inline(operation.summary)),
        operation.requestBody && h("p", null, "Body: ", kind(operation.requestBody.content["application/json"].schema)),
        operation.parameters.length > 0 && h("details", null, h("summary", null, `Parameters (${operation.parameters.length})`), h("dl", { class: "facts" }, operation.parameters.flatMap((/** @type {any} */ one) => [h("dt", null, h("code", null, one.name), " ", h("small", null, one.in)), h("dd", null, inline(one.description))]))),
        h("details", null, h("summary", null, "Answers"), h("dl", { class: "facts" }, Object.entries(operation.responses).flatMap(([status, /** @type {any} */ response]) => [h("dt", null, status), h("dd", null, Object.values(response.content ?? {}).flatMap((/** @type {any} */ one) => [kind(one.schema), ". "].flat()), response.description)]))),
        tryIt(document, method, path, operation)));
    }
  }
  put(main, h("h2", { id: "types" }, "Types"));
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    put(main, h("details", { id: name, class: "card" }, h("summary", null, h("code", null, name)), h("p", null, inline(schema.description ?? "")),
      schema.enum && h("p", null, h("code", null, schema.enum.join(" | "))), schema.properties && members(schema),
      schema.oneOf && !schema.properties && h("ul", null, schema.oneOf.map((/** @type {any} */ one) => h("li", null, one.$ref ? kind(one) : [h("code", null, String(one.properties?.event?.const ?? "")), " ", kind(one.properties?.data), " ", one.description ?? ""])))));
  }
  fill(left, index);
  show();
}

/** Opens and shows what the address names. */
function show() {
  const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (place instanceof HTMLDetailsElement) place.open = true;
  place?.scrollIntoView();
}

addEventListener("hashchange", show);
draw().catch((error) => put(main, h("p", { class: "wrong", role: "alert" }, inWords(error))));
