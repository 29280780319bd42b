// A grpc-web client: prints each event of a job as base64 of its message.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

// Packages live where tests/all installed them.
const load = (name) => import(pathToFileURL(createRequire(path.join(process.env.NODE_PATH, "x.js")).resolve(name)).href);
const { createFileRegistry, fromBinary, toBinary } = await load("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = await load("@bufbuild/protobuf/wkt");
const { createClient } = await load("@connectrpc/connect");
const { createGrpcWebTransport } = await load("@connectrpc/connect-web");

const [address, image, jobId, after] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(image)));
const service = registry.getService("conductor.gateway.v1.GatewayService");
const eventSchema = registry.getMessage("conductor.gateway.v1.JobEvent");
const client = createClient(service, createGrpcWebTransport({ baseUrl: `http://${address}` }));
for await (const frame of client.watchJob({ jobId, afterSequence: Number(after) })) {
  if (frame.message.case === "event") {
    console.log(Buffer.from(toBinary(eventSchema, frame.message.value)).toString("base64"));
  }
}
