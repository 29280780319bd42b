// @ts-check
// Forms from JSON Schemas: required members first, the others folded.

import { h, put } from "./dom.js";

let nextId = 1;

/**
 * @param {any} schema
 * @returns {{value: any, help: string}[] | null}
 */
function choices(schema) {
  if (Array.isArray(schema.enum)) return schema.enum.map((/** @type {any} */ value) => ({ value, help: "" }));
  const options = schema.oneOf ?? schema.anyOf;
  if (Array.isArray(options) && options.every((option) => "const" in option)) {
    return options.map((/** @type {any} */ option) => ({ value: option.const, help: option.title ?? option.description ?? "" }));
  }
  return null;
}

/** @param {any} schema */
function typeOf(schema) {
  const type = Array.isArray(schema.type) ? schema.type.find((/** @type {string} */ type) => type !== "null") : schema.type;
  return type ?? "any";
}

/**
 * One field. `read` returns the value, undefined where nothing was put in; it throws a sentence for what cannot be read.
 * @param {string} name
 * @param {any} schema
 * @param {boolean} isRequired
 * @param {{agents?: string[], initial?: any}} context
 * @returns {{element: HTMLElement, read: () => any, focus: () => void}}
 */
function field(name, schema, isRequired, context) {
  const id = `field-${nextId++}`;
  const initial = context.initial?.[name] ?? schema.default;
  const type = typeOf(schema);
  const listed = choices(schema);
  const label = h("label", { for: id }, schema.title ?? name.replaceAll("_", " "));
  const help = schema.description ? h("span", { class: "help", id: `${id}-help` }, String(schema.description).slice(0, 600)) : null;
  const common = { id, name, "aria-describedby": help ? `${id}-help` : null, required: isRequired };
  /** @type {any} */
  let control;
  /** @type {() => any} */
  let read;
  if (listed) {
    control = h("select", common, !isRequired || initial === undefined ? h("option", { value: "" }, "—") : null,
      listed.map((choice, index) => h("option", { value: index, selected: choice.value === initial }, choice.help ? `${choice.value}: ${choice.help}` : String(choice.value))));
    read = () => (control.value === "" ? undefined : listed[Number(control.value)]?.value);
  } else if (type === "boolean") {
    control = h("input", { ...common, required: false, type: "checkbox", checked: initial === true });
    read = () => (control.checked || isRequired || initial === true ? control.checked : undefined);
    return {
      element: h("div", null, h("label", { class: "check", for: id }, control, schema.title ?? name.replaceAll("_", " ")), help),
      read, focus: () => control.focus(),
    };
  } else if (type === "integer" || type === "number") {
    control = h("input", { ...common, type: "number", step: type === "integer" ? 1 : "any", min: schema.minimum, max: schema.maximum, value: initial ?? "" });
    read = () => (control.value === "" ? undefined : Number(control.value));
  } else if (type === "string") {
    const isLong = (schema.maxLength ?? 0) > 5000 || name === "input_text" || name === "initial_input";
    if (isLong) control = h("textarea", { ...common, value: initial ?? "" });
    else {
      const completes = name === "agent_id" && context.agents?.length;
      control = h("input", { ...common, value: initial ?? "", autocomplete: "off", spellcheck: "false", list: completes ? `${id}-list` : null, pattern: schema.pattern?.replaceAll("-]", "\\-]") });
      if (completes) control = [control, h("datalist", { id: `${id}-list` }, context.agents?.map((agent) => h("option", { value: agent })))];
    }
    const input = Array.isArray(control) ? control[0] : control;
    read = () => (input.value === "" && !(isRequired && (schema.minLength ?? 0) === 0 && initial !== undefined) ? undefined : input.value);
  } else if (type === "array" && typeOf(schema.items ?? {}) === "string") {
    control = h("textarea", { ...common, placeholder: "one in each line", value: (initial ?? []).join("\n") });
    read = () => (control.value.trim() === "" ? undefined : control.value.split("\n").filter((/** @type {string} */ line) => line !== ""));
  } else {
    control = h("textarea", { ...common, class: "mono", spellcheck: "false", placeholder: "JSON", value: initial === undefined ? "" : JSON.stringify(initial, null, 2) });
    read = () => {
      if (control.value.trim() === "") return undefined;
      try {
        return JSON.parse(control.value);
      } catch (error) {
        throw new Error(`${name} is no JSON: ${/** @type {Error} */ (error).message}`);
      }
    };
  }
  const element = h("div", null, label, control, help);
  return { element, read, focus: () => (Array.isArray(control) ? control[0] : control).focus() };
}

/**
 * The fields of an object's schema. `read` returns the object; it throws a sentence for what is missing or cannot be read.
 * @param {any} schema
 * @param {{agents?: string[], initial?: any}} [context]
 * @returns {{element: HTMLElement, read: () => Record<string, any>}}
 */
export function objectForm(schema, context = {}) {
  const required = new Set(schema.required ?? []);
  const element = h("div", null);
  /** @type {[string, ReturnType<typeof field>, boolean][]} */
  const fields = Object.entries(schema.properties ?? {}).map(([name, property]) => [name, field(name, property, required.has(name), context), required.has(name)]);
  put(element, fields.filter(([, , isRequired]) => isRequired).map(([, one]) => one.element));
  const optional = fields.filter(([, , isRequired]) => !isRequired);
  if (optional.length > 0) {
    const isOpen = required.size === 0 || optional.some(([name]) => context.initial?.[name] !== undefined);
    put(element, h("details", { open: isOpen }, h("summary", null, `Optional (${optional.length})`), optional.map(([, one]) => one.element)));
  }
  return {
    element,
    read: () => {
      /** @type {Record<string, any>} */
      const value = {};
      for (const [name, one, isRequired] of fields) {
        const read = one.read();
        if (read !== undefined) value[name] = read;
        else if (isRequired) {
          one.focus();
          throw new Error(`${name} is missing`);
        }
      }
      return value;
    },
  };
}

/**
 * What answers a question: a button for each choice, or a form.
 * @param {any} schema
 * @param {(value: any) => void} answer
 * @returns {HTMLElement}
 */
export function answerForm(schema, answer) {
  const element = h("div", null);
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const listed = choices(schema ?? {}) ?? (schema?.type === "boolean" ? [{ value: true, help: "" }, { value: false, help: "" }] : null);
  const named = (/** @type {any} */ value) => (value === true ? "Yes" : value === false ? "No" : String(value));
  if (listed && listed.length <= 12) {
    put(element, h("div", { class: "buttons" }, listed.map((choice) => h("button", { type: "button", title: choice.help, onclick: () => answer(choice.value) }, named(choice.value)))));
    return element;
  }
  // A question may take none for an answer: it ends a session, for instance.
  const takesNone = Array.isArray(schema?.type) && schema.type.includes("null");
  const ends = /null ends the session/u.test(schema?.description ?? "");
  const about = ends ? { ...schema, description: "A line for the agent." } : schema;
  const isObject = typeOf(schema ?? {}) === "object" && schema.properties;
  const whole = isObject ? objectForm(schema) : field("answer", { ...(schema?.type ? about : { ...schema, type: "string" }), title: "Your answer", maxLength: 10_000 }, true, {});
  const form = h("form", { onkeydown: (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  }, onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      const value = whole.read();
      answer(value === undefined ? "" : value);
    } catch (error) {
      wrong.hidden = false;
      wrong.textContent = /** @type {Error} */ (error).message;
    }
  } }, whole.element, wrong, h("div", { class: "buttons" }, h("button", { class: "first" }, "Answer"), takesNone && h("button", { type: "button", onclick: () => answer(null) }, ends ? "End the session" : "Answer nothing")));
  put(element, form);
  return element;
}
