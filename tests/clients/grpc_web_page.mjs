// Four grpc-web libraries in one page, over the same descriptors; `grpc_web_browser.mjs` bundles it and calls `clients`.
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, createClient as connectClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { GrpcWebFetchTransport } from "@protobuf-ts/grpcweb-transport";
import { ServiceType } from "@protobuf-ts/runtime-rpc";
import { GrpcWebClientBase, MethodDescriptor } from "grpc-web";
import { createChannel, createClient as niceClient } from "nice-grpc-web";

const SERVICE = "conductor.gateway.v1.GatewayService";
const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

/** Whether details of a status, in whatever form a library gives them, hold a reason. */
const holds = (details, reason) => {
  const bytes = typeof details === "string" ? bytesOf(details.replaceAll("-", "+").replaceAll("_", "/")) : details;
  return new TextDecoder().decode(bytes ?? new Uint8Array()).includes(reason);
};

export function clients(image, address) {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytesOf(image)));
  const service = registry.getService(SERVICE);
  const method = (name) => service.methods.find((one) => one.name === name);
  const encode = (schema) => (value) => toBinary(schema, create(schema, value));
  const decode = (schema) => (bytes) => fromBinary(schema, bytes);
  const sequence = (frame) => (frame.message.case === "event" ? frame.message.value.sequence : 0);

  const connect = connectClient(service, createGrpcWebTransport({ baseUrl: address }));

  const google = (format) => {
    const base = new GrpcWebClientBase({ format });
    const described = (name, kind) => new MethodDescriptor(`/${SERVICE}/${name}`, kind, Object, Object, encode(method(name).input), decode(method(name).output));
    return {
      unary: (name, request) => base.unaryCall(`${address}/${SERVICE}/${name}`, request, {}, described(name, "unary")),
      stream: (name, request) => base.serverStreaming(`${address}/${SERVICE}/${name}`, request, {}, described(name, "server_streaming")),
    };
  };
  const googleText = google("text");

  const nice = niceClient(Object.fromEntries(["GetServerInfo", "GetJob", "WatchJob"].map((name) => [name[0].toLowerCase() + name.slice(1), {
    path: `/${SERVICE}/${name}`, requestStream: false, responseStream: name === "WatchJob", options: {},
    requestSerialize: encode(method(name).input), requestDeserialize: decode(method(name).input),
    responseSerialize: encode(method(name).output), responseDeserialize: decode(method(name).output),
  }])), createChannel(address));

  const transport = new GrpcWebFetchTransport({ baseUrl: address, format: "binary" });
  const type = (schema) => ({ typeName: schema.typeName, create: (value) => value, toBinary: encode(schema), fromBinary: decode(schema), clone: (value) => value });
  const types = new ServiceType(SERVICE, ["GetServerInfo", "GetJob", "WatchJob"].map((name) => ({ name, I: type(method(name).input), O: type(method(name).output), serverStreaming: name === "WatchJob", options: {} })));
  const bufferedCall = (name, request, abort) => {
    const info = types.methods.find((one) => one.name === name);
    const options = transport.mergeOptions({ abort });
    return info.serverStreaming ? transport.serverStreaming(info, request, options) : transport.unary(info, request, options);
  };

  const googleClient = (calls) => ({
    version: async () => (await calls.unary("GetServerInfo", {})).version,
    sequences: (jobId) => new Promise((resolve, reject) => {
      const found = [];
      calls.stream("WatchJob", { jobId }).on("data", (frame) => found.push(sequence(frame))).on("error", reject).on("end", () => resolve(found));
    }),
    refusal: async (jobId) => {
      try {
        await calls.unary("GetJob", { jobId });
      } catch (error) {
        return { code: error.code, hasReason: holds(error.metadata["grpc-status-details-bin"], "JOB_NOT_FOUND") };
      }
    },
    aborted: (jobId) => new Promise((resolve, reject) => {
      const stream = calls.stream("WatchJob", { jobId });
      stream.on("data", () => { stream.cancel(); resolve("aborted"); }).on("error", reject);
    }),
  });

  return {
    "@connectrpc/connect-web": {
      version: async () => (await connect.getServerInfo({})).version,
      sequences: async (jobId) => {
        const found = [];
        for await (const frame of connect.watchJob({ jobId })) found.push(sequence(frame));
        return found;
      },
      refusal: async (jobId) => {
        try {
          await connect.getJob({ jobId });
        } catch (error) {
          const { code, details } = ConnectError.from(error);
          return { code, hasReason: details.some((one) => holds(one.value, "JOB_NOT_FOUND")) };
        }
      },
      aborted: async (jobId) => {
        const abort = new AbortController();
        try {
          for await (const _ of connect.watchJob({ jobId }, { signal: abort.signal })) abort.abort();
        } catch (error) {
          return ConnectError.from(error).code === 1 ? "aborted" : String(error);
        }
      },
    },
    "grpc-web": googleClient(googleText),
    "nice-grpc-web": {
      version: async () => (await nice.getServerInfo({})).version,
      sequences: async (jobId) => {
        const found = [];
        for await (const frame of nice.watchJob({ jobId })) found.push(sequence(frame));
        return found;
      },
      refusal: async (jobId) => {
        let trailer;
        const onTrailer = (metadata) => { trailer = metadata; };
        try {
          await nice.getJob({ jobId }, { onTrailer, onHeader: onTrailer });
        } catch (error) {
          return { code: error.code, hasReason: holds(trailer?.get("grpc-status-details-bin"), "JOB_NOT_FOUND") };
        }
      },
      aborted: async (jobId) => {
        const abort = new AbortController();
        try {
          for await (const _ of nice.watchJob({ jobId }, { signal: abort.signal })) abort.abort();
        } catch (error) {
          return error.name === "AbortError" ? "aborted" : String(error);
        }
      },
    },
    "@protobuf-ts/grpcweb-transport": {
      version: async () => (await bufferedCall("GetServerInfo", {}).response).version,
      sequences: async (jobId) => {
        const found = [];
        const call = bufferedCall("WatchJob", { jobId });
        for await (const frame of call.responses) found.push(sequence(frame));
        await call.status;
        return found;
      },
      refusal: async (jobId) => {
        try {
          await bufferedCall("GetJob", { jobId }).response;
        } catch (error) {
          return { code: error.code, hasReason: holds(error.meta["grpc-status-details-bin"], "JOB_NOT_FOUND") };
        }
      },
      aborted: async (jobId) => {
        const abort = new AbortController();
        const call = bufferedCall("WatchJob", { jobId }, abort.signal);
        try {
          for await (const _ of call.responses) abort.abort();
        } catch (error) {
          return error.code === "CANCELLED" ? "aborted" : String(error);
        }
      },
    },
  };
}
globalThis.clients = clients;
