// @ts-check
// The shared worker of all tabs; see hub.js.

import { Hub } from "./hub.js";

const hub = new Hub(new URL("..", import.meta.url).href);

/** @type {any} */ (globalThis).onconnect = (/** @type {any} */ event) => {
  const [port] = event.ports;
  /** @type {import("./hub.js").Tab} */
  const tab = { post: (message) => port.postMessage(message), jobId: null, last: 0 };
  port.onmessage = (/** @type {MessageEvent} */ message) => hub.hear(tab, message.data);
  hub.add(tab);
};
