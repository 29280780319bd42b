// @ts-check
// What agents, engines and models write, as text that can be looked at: colours of terminals become classes, everything else that a
// terminal would obey is dropped, and hidden characters are seen.

/** Characters that show nothing or turn the direction of text. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/u;
const HIDDEN_ALL = new RegExp(HIDDEN.source, "gu");
/** CSI, OSC and other sequences of ECMA-48, whole or cut at the end of the text. */
const SEQUENCE = /\u001b\[([0-?]*)[ -/]*([@-~])|\u001b\][^\u0007\u001b]{0,4096}(?:\u0007|\u001b\\|$)|\u001b[PX^_][^\u001b]{0,4096}(?:\u001b\\|$)|\u001b\[[0-?]*[ -/]*$|\u001b[ -/]*[0-~]?/gu;
/** The most spans in one text; what follows is without colours. */
const MAX_SPANS = 30;

/**
 * Returns a short text on one line, hidden characters as a mark.
 * @param {unknown} text
 * @param {number} [most]
 */
export function line(text, most = 200) {
  const start = String(text ?? "").slice(0, most * 4).replace(SEQUENCE, "").replace(/\s+/gu, " ").replace(HIDDEN_ALL, "·").trim();
  return start.length > most ? `${start.slice(0, most - 1)}…` : start;
}

/**
 * Returns text for copying into one text node: sequences dropped, carriage returns as a terminal would show them, hidden
 * characters as a mark.
 * @param {string} text
 */
export function plain(text) {
  return lines(text.replace(SEQUENCE, "")).replace(HIDDEN_ALL, "·");
}

/**
 * A lone carriage return begins its line anew.
 * @param {string} text
 */
function lines(text) {
  const whole = text.replaceAll("\r\n", "\n");
  if (!whole.includes("\r")) return whole;
  // Not by one expression: it would begin anew at each character of a long line.
  return whole.split("\n").map((line) => line.split("\r").findLast((part) => part !== "") ?? "").join("\n");
}

/**
 * Returns text with the colours of a terminal as nodes.
 * @param {string} text
 * @returns {Node[]}
 */
export function terminal(text) {
  /** @type {Node[]} */
  const nodes = [];
  /** @type {Set<string>} */
  let classes = new Set();
  const add = (/** @type {string} */ piece) => {
    if (piece === "") return;
    const clean = lines(piece).replace(HIDDEN_ALL, "·");
    const last = nodes[nodes.length - 1];
    if (classes.size === 0 || nodes.length >= MAX_SPANS) {
      if (last instanceof Text) last.appendData(clean);
      else nodes.push(document.createTextNode(clean));
      return;
    }
    const span = document.createElement("span");
    span.className = [...classes].join(" ");
    span.textContent = clean;
    nodes.push(span);
  };
  let from = 0;
  for (const match of text.matchAll(SEQUENCE)) {
    add(text.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === "m") classes = styled(classes, match[1] ?? "");
  }
  add(text.slice(from));
  return nodes;
}

/**
 * Applies a "select graphic rendition" sequence.
 * @param {Set<string>} before
 * @param {string} parameters
 */
function styled(before, parameters) {
  let classes = new Set(before);
  const numbers = parameters.split(/[;:]/u).map(Number);
  const colour = (/** @type {string} */ name) => {
    for (const known of classes) if (/^ansi-\d+$/u.test(known)) classes.delete(known);
    if (name) classes.add(name);
  };
  for (let index = 0; index < numbers.length; index += 1) {
    const code = numbers[index] ?? 0;
    if (code === 0) classes = new Set();
    else if (code === 1) classes.add("ansi-bold");
    else if (code === 2) classes.add("ansi-dim");
    else if (code === 3) classes.add("ansi-italic");
    else if (code === 4) classes.add("ansi-underline");
    else if (code === 22) { classes.delete("ansi-bold"); classes.delete("ansi-dim"); }
    else if (code === 23) classes.delete("ansi-italic");
    else if (code === 24) classes.delete("ansi-underline");
    else if (code >= 30 && code <= 37) colour(`ansi-${code - 30}`);
    else if (code >= 90 && code <= 97) colour(`ansi-${code - 82}`);
    else if (code === 39) colour("");
    else if (code === 38) {
      // 256 colours: the first 16 are those above; the others, and 24 bits, have no class.
      const wanted = numbers[index + 1] === 5 ? numbers[index + 2] ?? -1 : -1;
      colour(wanted >= 0 && wanted < 16 ? `ansi-${wanted}` : "");
      index += numbers[index + 1] === 5 ? 2 : 4;
    } else if (code === 48) index += numbers[index + 1] === 5 ? 2 : 4;
  }
  return classes;
}

/** How much of a text is shown at once. */
export const PAGE = 16 * 1024;

/** How much of a process's output is shown while it grows: more than its box holds, and laid out anew with each frame. */
export const LIVE = 4 * 1024;

/**
 * A text that grows: its beginning and its end are kept, however long it becomes.
 */
export class GrowingText {
  /** @param {number} [kept] How much of either end is kept, in UTF-16 units. */
  constructor(kept = 128 * 1024) {
    this.kept = kept;
    this.start = "";
    /** @type {string[]} */
    this.pieces = [];
    this.held = 0;
    /** The length of all that was added. */
    this.length = 0;
  }

  /** @param {string} text */
  add(text) {
    this.length += text.length;
    const room = this.kept - this.start.length;
    this.start += text.slice(0, room);
    const rest = text.slice(room);
    if (rest === "") return;
    this.pieces.push(rest);
    this.held += rest.length;
    while (this.pieces.length > 1 && this.held - (this.pieces[0]?.length ?? 0) >= this.kept) this.held -= this.pieces.shift()?.length ?? 0;
    if (this.pieces.length > 512) this.pieces = [this.pieces.join("")];
  }

  /** How much of the middle is not kept. */
  get lost() {
    return this.length - this.start.length - this.held;
  }

  /** All that is kept, with a line where something is not. */
  text() {
    const gap = this.lost > 0 ? `\n… ${this.lost.toLocaleString("en")} characters are not kept here …\n` : "";
    return this.start + gap + this.pieces.join("");
  }

  /**
   * The end of the text.
   * @param {number} most
   */
  tail(most) {
    if (this.length <= most) return this.text();
    let end = "";
    for (let index = this.pieces.length - 1; index >= 0 && end.length < most; index -= 1) end = this.pieces[index] + end;
    return (end.length < most ? this.start + end : end).slice(-most);
  }
}
