// Reads a stream of server-sent events with a parser of others and prints [[id, data], …].
import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(`${process.env.NODE_PATH}/`);
const [url, parser] = process.argv.slice(2);
const events = [];

if (parser === "eventsource-parser") {
  const { createParser } = await import(require.resolve("eventsource-parser"));
  const feeding = createParser({ onEvent: (event) => events.push([event.id, event.data]) });
  const response = await fetch(url);
  const decoder = new TextDecoder();
  for await (const piece of response.body) feeding.feed(decoder.decode(piece, { stream: true }));
  console.log(JSON.stringify(events));
} else {
  const { EventSource } = await import(require.resolve("eventsource"));
  const source = new EventSource(url);
  source.onmessage = (event) => {
    events.push([event.lastEventId, event.data]);
    if (JSON.parse(event.data).event === "end_of_stream") {
      source.close();
      console.log(JSON.stringify(events));
    }
  };
}
