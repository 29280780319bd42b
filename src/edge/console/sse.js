// @ts-check
// A reader of server-sent events over fetch: unlike EventSource it goes on after any answer, and says why a stream ended.

/** The longest silence: the gateway sends a comment every 15 seconds. */
const SILENCE = 45_000;

/**
 * Reads a stream. Calls `each` with the events of every piece that arrives, in order, as `{id, data}`.
 * Returns the status: 200 when the stream ended, 204 when there was nothing left to read, otherwise a refusal's.
 * @param {string} url
 * @param {Record<string, string>} headers
 * @param {AbortSignal} signal
 * @param {(events: {id: string, data: string}[]) => void} each
 * @param {() => void} opened
 * @returns {Promise<number>}
 */
export async function read(url, headers, signal, each, opened) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE);
  };
  try {
    const response = await fetch(url, {
      headers: { accept: "text/event-stream", ...headers },
      cache: "no-store",
      signal: AbortSignal.any([signal, silence.signal]),
    });
    if (response.status !== 200 || !response.body) {
      await response.body?.cancel();
      return response.status;
    }
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let id = "";
    /** @type {string[]} */
    let data = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return 200;
      alive();
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      /** @type {{id: string, data: string}[]} */
      const events = [];
      for (const line of lines) {
        if (line === "") {
          if (data.length > 0 || id !== "") events.push({ id, data: data.join("\n") });
          data = [];
          id = "";
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (line.startsWith("id:")) {
          id = line.slice(3).trim();
        }
      }
      if (events.length > 0) each(events);
    }
  } finally {
    clearTimeout(timer);
  }
}
