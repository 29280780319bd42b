//! Compiles `proto/` with protox (no protoc, no network): messages, the tonic service, and JSON by pbjson.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const PACKAGE: &str = ".conductor.gateway.v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(
        ["conductor/gateway/v1/gateway_service.proto", "conductor/gateway/storage/v1/storage.proto"],
        ["proto"],
    )?;
    let descriptor_bytes = descriptors.encode_to_vec();
    fs::write(out_dir.join("descriptors.bin"), &descriptor_bytes)?;

    // Stream responses relay events; the stored bytes of an event are relayed through it untouched.
    tonic_prost_build::configure()
        .extern_path(".google.protobuf.Timestamp", "crate::pb::Timestamp")
        .extern_path(format!("{PACKAGE}.StreamExecuteResponse"), "crate::pb::EventFrame")
        .extern_path(format!("{PACKAGE}.WatchJobResponse"), "crate::pb::EventFrame")
        .extern_path(format!("{PACKAGE}.WatchJobsResponse"), "crate::pb::JobsFrame")
        .btree_map(".")
        .bytes(".conductor.gateway.storage.v1")
        .compile_fds(descriptors)?;

    // Left out: what `pb/` renders by hand (open JSON, enum names without their prefix) and the frames.
    pbjson_build::Builder::new()
        .register_descriptors(&descriptor_bytes)?
        .extern_path(".google.protobuf.Timestamp", "crate::pb::Timestamp")
        .preserve_proto_field_names()
        .emit_fields()
        .btree_map(["."])
        .exclude(
            ["Json", "JobState", "Door", "StatusReason", "OutputStream", "OnDisconnect", "CostBasis"]
                .map(|name| format!("{PACKAGE}.{name}")),
        )
        .exclude(
            ["StreamExecuteResponse", "WatchJobResponse", "WatchJobsResponse"]
                .map(|name| format!("{PACKAGE}.{name}")),
        )
        .build(&[PACKAGE])?;
    Ok(())
}
