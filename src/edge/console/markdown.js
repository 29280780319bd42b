// @ts-check
// The little of Markdown that answers are written in: paragraphs, headings, lists, code, strong words. Links stay the text that they are,
// so that nobody follows one by mistake.

import { h } from "./dom.js";
import { plain } from "./text.js";

/** The most blocks; what follows is one block of plain text. */
const MAX_BLOCKS = 60;

/**
 * Returns a sentence, with code and strong words.
 * @param {string} text
 * @returns {Node[]}
 */
export function inline(text) {
  /** @type {Node[]} */
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(/`([^`\n]{1,500})`|\*\*([^*\n]{1,500})\*\*/gu)) {
    if (nodes.length > 16) break;
    nodes.push(document.createTextNode(text.slice(from, match.index)));
    nodes.push(match[1] === undefined ? h("strong", null, match[2]) : h("code", null, match[1]));
    from = match.index + match[0].length;
  }
  nodes.push(document.createTextNode(text.slice(from)));
  return nodes;
}

/**
 * Returns a text as an element.
 * @param {string} source
 * @returns {HTMLElement}
 */
export function markdown(source) {
  const lines = plain(source).split("\n");
  const into = h("div", { class: "markdown", dir: "auto" });
  /** @type {string[]} */
  let paragraph = [];
  const end = () => {
    if (paragraph.length > 0) into.append(h("p", null, ...inline(paragraph.join("\n"))));
    paragraph = [];
  };
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index] ?? "";
    if (into.childElementCount >= MAX_BLOCKS) {
      end();
      into.append(h("p", null, lines.slice(index).join("\n")));
      return into;
    }
    const fence = /^\s{0,3}(```+|~~~+)/u.exec(line)?.[1];
    const heading = /^(#{1,6})\s+(.*)$/u.exec(line);
    const item = /^\s*(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/u.exec(line);
    if (fence) {
      end();
      const code = [];
      for (index += 1; index < lines.length && !(lines[index] ?? "").trim().startsWith(fence); index += 1) code.push(lines[index]);
      into.append(h("pre", { tabindex: "0" }, h("code", null, code.join("\n"))));
    } else if (heading) {
      end();
      into.append(h("h3", null, ...inline(heading[2] ?? "")));
    } else if (item) {
      end();
      const name = item[1] === undefined ? "ul" : "ol";
      const last = into.lastElementChild;
      const list = last?.localName === name ? last : h(name, { start: item[1] });
      if (list !== last) into.append(list);
      if (list.childElementCount < 100) list.append(h("li", null, ...inline(item[2] ?? "")));
      else list.lastElementChild?.append(`\n${item[2]}`);
    } else if (line.trim() === "") {
      end();
    } else {
      paragraph.push(line);
    }
  }
  end();
  return into;
}
