/** A client of the Conductor Gateway: over `fetch`, so that it goes on where a browser's `EventSource` gives up. */

/** An event of a job. `sequence` counts from 1; docs/protocol.md lists the names and their data. */
export interface GatewayEvent {
  event: string;
  data: Record<string, unknown>;
  /** Seconds since 1970. */
  timestamp: number;
  job_id: string;
  sequence: number;
}

/** A task: exactly one of a command, an agent with its input, a tool with its arguments; and its options. */
export interface Task {
  command?: string;
  agent_id?: string;
  input_text?: string;
  tool?: string;
  arguments?: Record<string, unknown>;
  conversation_id?: string;
  labels?: Record<string, string>;
  timeout_seconds?: number;
  /** Submitted again with the same key it is the same job; left out, each submission has one of its own. */
  idempotency_key?: string;
}

/** What is known of a job; docs/protocol.md lists the members. */
export interface Job {
  job_id: string;
  state: "QUEUED" | "RUNNING" | "INPUT_REQUIRED" | "SUCCEEDED" | "FAILED" | "CANCELLED" | "INTERRUPTED";
  last_sequence: number;
  error?: { reason: string; message: string };
  [member: string]: unknown;
}

/** How a client behaves. */
export interface Options {
  /** How long a gateway that does not answer is tried again, in milliseconds; five minutes if left out. */
  patience?: number;
  /** Sent with every request, such as what a proxy in front of the gateway wants. */
  headers?: Record<string, string>;
}

/** The gateway refused a request. `reason` is one of docs/errors.md. */
export class GatewayError extends Error {
  constructor(
    readonly status: number,
    readonly reason: string,
    message: string,
    readonly problem: Record<string, unknown> = {},
  ) {
    super(`${reason}: ${message}`);
    this.name = "GatewayError";
  }

  /** Whether nothing was accepted, so that the same request may be sent again. */
  get isRetryable(): boolean {
    return [408, 429, 502, 503, 504].includes(this.status);
  }
}

/** A job ended without success. */
export class JobFailed extends Error {
  constructor(readonly job_id: string, readonly state: string, readonly reason: string, message: string) {
    super(`${state}: ${reason}: ${message}`);
    this.name = "JobFailed";
  }
}

/** The gateway did not come back. The job may go on; follow it again after `lastSequence`. */
export class StreamCut extends Error {
  constructor(readonly job_id: string, readonly lastSequence: number, cause: string) {
    super(`the events of ${job_id} were cut after ${lastSequence}: ${cause}`);
    this.name = "StreamCut";
  }
}

/** A longer event is refused: the gateway sends none above 256 KiB, JSON twice as large. */
const MAX_EVENT_CHARACTERS = 4 * 1024 * 1024;
/** Heartbeats come every 15 seconds; a stream that is silent for longer than this is cut. */
const SILENCE = 60_000;

/** Reads server-sent events from text in any pieces (HTML standard, section 9.2). */
export class SseReader {
  private rest = "";
  private data: string[] = [];

  /** Returns the events that are complete after this piece. */
  feed(piece: string): GatewayEvent[] {
    this.rest += piece;
    if (this.rest.length > MAX_EVENT_CHARACTERS) throw new Error("an event is longer than any of the gateway's");
    const lines = this.rest.split("\n");
    this.rest = lines.pop() ?? "";
    const events: GatewayEvent[] = [];
    for (const raw of lines) {
      const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (line.startsWith("data:")) {
        this.data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
      } else if (line === "" && this.data.length > 0) {
        const document = JSON.parse(this.data.join("\n")) as Partial<GatewayEvent>;
        this.data = [];
        if (typeof document.event === "string" && typeof document.sequence === "number") {
          events.push({ data: {}, timestamp: 0, job_id: "", ...document } as GatewayEvent);
        }
      }
    }
    return events;
  }
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));
/** Doubles to five seconds, spread so that readers do not all come at once. */
const delay = (attempt: number) => Math.min(5000, 200 * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2);

async function refusal(answer: Response): Promise<GatewayError> {
  const text = await answer.text();
  let problem: Record<string, unknown> = {};
  try {
    const document: unknown = JSON.parse(text);
    if (typeof document === "object" && document !== null) problem = document as Record<string, unknown>;
  } catch {
    // A proxy's page is no problem document.
  }
  const reason = typeof problem.reason === "string" ? problem.reason : `HTTP_${answer.status}`;
  const detail = typeof problem.detail === "string" ? problem.detail : text.slice(0, 500);
  return new GatewayError(answer.status, reason, detail, problem);
}

/** A gateway. */
export class Client {
  private readonly url: string;
  private readonly patience: number;
  private readonly headers: Record<string, string>;

  constructor(url: string, options: Options = {}) {
    this.url = url.replace(/\/+$/, "");
    this.patience = options.patience ?? 300_000;
    this.headers = options.headers ?? {};
  }

  private async send(method: string, path: string, body?: unknown): Promise<Response> {
    const until = Date.now() + this.patience;
    for (let attempt = 0; ; attempt++) {
      let wait = delay(attempt);
      try {
        const answer = await fetch(this.url + path, {
          method,
          headers: { ...this.headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
          body: body === undefined ? undefined : JSON.stringify(body),
        });
        if (answer.ok) return answer;
        const after = Number(answer.headers.get("retry-after") ?? 0) * 1000;
        const error = await refusal(answer);
        // A job that failed is an answer, and no failure of the way to it.
        if (!error.isRetryable || "job_id" in error.problem || Date.now() >= until) throw error;
        wait = Math.min(after || wait, 30_000);
      } catch (error) {
        if (error instanceof GatewayError || Date.now() >= until) throw error;
      }
      await pause(wait);
    }
  }

  /** Submits a task. It has a key, so that it is one job also where the answer was lost. */
  async submit(task: Task): Promise<{ job_id: string; stream_url: string }> {
    const key = () => "ts-" + Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const answer = await this.send("POST", "/api/v1/stream-execute", { idempotency_key: key(), ...task });
    return (await answer.json()) as { job_id: string; stream_url: string };
  }

  /**
   * Yields every event after `after` once, over cuts and restarts of the gateway, and returns when the job has ended. Throws
   * `GatewayError` if the gateway refuses, `StreamCut` if it does not come back.
   */
  async *follow(jobId: string, options: { after?: number; signal?: AbortSignal } = {}): AsyncGenerator<GatewayEvent, void> {
    let after = options.after ?? 0;
    let since = Date.now();
    for (let attempt = 0; ; attempt++) {
      let cause = "the stream ended before the job";
      const abort = new AbortController();
      const leave = () => abort.abort();
      options.signal?.addEventListener("abort", leave);
      let silence = setTimeout(leave, SILENCE);
      try {
        options.signal?.throwIfAborted();
        const answer = await fetch(`${this.url}/api/v1/stream/${encodeURIComponent(jobId)}`, {
          headers: { ...this.headers, accept: "text/event-stream", "last-event-id": String(after) },
          signal: abort.signal,
        });
        if (answer.status === 204) return;
        if (!answer.ok || answer.body === null) {
          const error = await refusal(answer);
          if (!error.isRetryable) throw error;
          cause = error.message;
        } else {
          const [reader, text] = [new SseReader(), answer.body.pipeThrough(new TextDecoderStream()).getReader()];
          for (;;) {
            const { done, value } = await text.read();
            clearTimeout(silence);
            silence = setTimeout(leave, SILENCE);
            if (done) break;
            // A heartbeat counts too; a proxy that only opens streams does not.
            since = Date.now();
            for (const event of reader.feed(value)) {
              if (event.sequence <= after) continue;
              after = event.sequence;
              attempt = 0;
              yield event;
              if (event.event === "end_of_stream") return;
            }
          }
        }
      } catch (error) {
        if (error instanceof GatewayError || options.signal?.aborted) throw error;
        cause = error instanceof Error ? error.message : String(error);
      } finally {
        clearTimeout(silence);
        options.signal?.removeEventListener("abort", leave);
        abort.abort();
      }
      if (Date.now() - since > this.patience) throw new StreamCut(jobId, after, cause);
      await pause(delay(attempt));
    }
  }

  /** Returns a job as it is now. */
  async job(jobId: string): Promise<Job> {
    return (await (await this.send("GET", `/api/v1/jobs/${encodeURIComponent(jobId)}`)).json()) as Job;
  }

  /** Returns the whole answer of a job that has succeeded. Throws `JobFailed` for one that has ended without. */
  async result(jobId: string): Promise<string> {
    const job = await this.job(jobId);
    if (["FAILED", "CANCELLED", "INTERRUPTED"].includes(job.state)) {
      throw new JobFailed(jobId, job.state, job.error?.reason ?? job.state, job.error?.message ?? "");
    }
    return (await this.send("GET", `/api/v1/jobs/${encodeURIComponent(jobId)}/result`)).text();
  }

  /** Submits a task, waits for its end, and returns its answer. Throws `JobFailed`. */
  async run(task: Task): Promise<string> {
    const { job_id } = await this.submit(task);
    for await (const _ of this.follow(job_id)) void _;
    return this.result(job_id);
  }

  /** Answers the open question of a job; its `input_required` event has the id. */
  async answer(jobId: string, inputId: string, value: unknown): Promise<Job> {
    const answer = await this.send("POST", `/api/v1/jobs/${encodeURIComponent(jobId)}/input`, { input_id: inputId, value });
    return (await answer.json()) as Job;
  }

  /** Cancels a job and waits for its end. */
  async cancel(jobId: string, waitSeconds = 30): Promise<Job> {
    const answer = await this.send("POST", `/api/v1/jobs/${encodeURIComponent(jobId)}/cancel`, { wait_seconds: waitSeconds });
    return (await answer.json()) as Job;
  }
}
