// @ts-check
// Building the page. Text only ever becomes text nodes: there is no way through here that makes markup of it.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Returns an element. `on…` attributes are listeners; a value of false, null or undefined leaves the attribute out.
 * @param {string} name
 * @param {Record<string, any> | null} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") /** @type {any} */ (element).value = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  put(element, ...children);
  return element;
}

/**
 * Appends children.
 * @param {Element | DocumentFragment} parent
 * @param {...(Child | Child[])} children
 */
export function put(parent, ...children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Replaces what is in an element.
 * @param {Element} parent
 * @param {...(Child | Child[])} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren();
  put(parent, ...children);
}

/**
 * Says something to a screen reader.
 * @param {string} text
 */
export function announce(text) {
  const place = document.getElementById("announce");
  if (place) place.textContent = text;
}

/**
 * A button that copies a text, and says so.
 * @param {string} label
 * @param {() => string} text
 */
export function copyButton(label, text) {
  const button = h("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      // Without a secure context there is no clipboard: the text is shown to be selected instead.
      const area = h("textarea", { readonly: true, "aria-label": label }, text());
      button.after(area);
      area.focus();
      area.select();
    }
    setTimeout(() => { button.textContent = label; }, 1500);
  } }, label);
  return button;
}

/**
 * Asks before something is destroyed.
 * @param {string} question
 * @param {string} act
 * @returns {Promise<boolean>}
 */
export function confirmed(question, act) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("confirm"));
  return new Promise((resolve) => {
    fill(dialog, h("h2", { id: "confirm-title" }, question), h("form", { method: "dialog", class: "buttons" },
      h("button", { value: "no" }, "Keep it"), h("button", { value: "yes", class: "destroys" }, act)));
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}
