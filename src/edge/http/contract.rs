//! The contract as data: messages, enums and calls with their comments, from the compiled descriptors; and the JSON Schemas of the
//! messages as the JSON doors write them.

use std::{collections::BTreeMap, sync::OnceLock};

use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Map, Value, json};

use crate::pb::DESCRIPTORS;

const PACKAGE: &str = "conductor.gateway.v1";

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) comment: String,
    /// Its type as the proto file writes it, such as `repeated string` or `map<string, string>`.
    pub(super) kind: String,
    /// Whether JSON may leave it out: it was not set, or it is an arm of a oneof.
    pub(super) is_optional: bool,
    schema: Value,
}

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) comment: String,
    pub(super) fields: Vec<Field>,
}

/// An enum: its comment, and each value's name without the prefix, with its comment.
#[derive(Debug)]
pub(super) struct Enum {
    pub(super) comment: String,
    pub(super) values: Vec<(String, String)>,
}

/// A call of the service.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) comment: String,
    pub(super) request: String,
    pub(super) response: String,
    pub(super) is_stream: bool,
}

/// The contract, by the short names of its types.
#[derive(Debug, Default)]
pub(super) struct Contract {
    pub(super) messages: BTreeMap<String, Message>,
    pub(super) enums: BTreeMap<String, Enum>,
    pub(super) calls: Vec<Call>,
}

/// Returns the contract, which is read once.
pub(super) fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(Contract::read)
}

/// Returns the reference to a type's schema.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Returns the last part of a type's name.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The comments of a file by the path of what they describe (descriptor.proto, `SourceCodeInfo`).
struct Comments<'a>(BTreeMap<&'a [i32], &'a str>);

impl<'a> Comments<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        Self(locations.map(|place| (&place.path[..], place.leading_comments())).collect())
    }

    fn at(&self, path: &[i32]) -> String {
        let comment = self.0.get(path).copied().unwrap_or_default();
        comment.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Contract {
    fn read() -> Self {
        let mut contract = Self::default();
        // The descriptors are part of this program; a test reads them.
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default().file;
        for file in files.iter().filter(|file| file.package() == PACKAGE) {
            let comments = Comments::of(file);
            for (index, message) in (0..).zip(&file.message_type) {
                let fields = (0..).zip(&message.field).map(|(field, described)| {
                    field_of(message, described, comments.at(&[4, index, 2, field]))
                });
                let read = Message { comment: comments.at(&[4, index]), fields: fields.collect() };
                contract.messages.insert(message.name().to_owned(), read);
            }
            for (index, described) in (0..).zip(&file.enum_type) {
                let prefix = described
                    .value
                    .first()
                    .map_or("", |value| value.name().strip_suffix("UNSPECIFIED").unwrap_or_default());
                let values = (0..).zip(&described.value).map(|(value, named)| {
                    let name = named.name().strip_prefix(prefix).unwrap_or_else(|| named.name());
                    (name.to_owned(), comments.at(&[5, index, 2, value]))
                });
                let read = Enum { comment: comments.at(&[5, index]), values: values.collect() };
                contract.enums.insert(described.name().to_owned(), read);
            }
            for (index, service) in (0..).zip(&file.service) {
                contract.calls.extend((0..).zip(&service.method).map(|(method, described)| Call {
                    name: described.name().to_owned(),
                    comment: comments.at(&[6, index, 2, method]),
                    request: short(described.input_type()).to_owned(),
                    response: short(described.output_type()).to_owned(),
                    is_stream: described.server_streaming(),
                }));
            }
        }
        contract
    }

    /// Returns the schemas of all messages and enums that JSON documents hold, by name.
    pub(super) fn schemas(&self) -> Map<String, Value> {
        // Open JSON is a value, and requests and frames have forms of their own over HTTP.
        let is_shown = |name: &str| {
            !matches!(name, "Json" | "JobEvent" | "Heartbeat" | "JobPosition")
                && !name.ends_with("Request")
                && !name.ends_with("Response")
        };
        let messages = self.messages.iter().filter(|(name, _)| is_shown(name));
        let enums = self.enums.iter().map(|(name, described)| {
            let names: Vec<&str> = described.values.iter().map(|(name, _)| name.as_str()).collect();
            (name.clone(), json!({"type": "string", "enum": names, "description": described.comment}))
        });
        messages.map(|(name, message)| (name.clone(), message.schema())).chain(enums).collect()
    }

    /// Returns the schema of an event as server-sent events carry it: one alternative for each payload.
    pub(super) fn event_schema(&self) -> Value {
        let payloads = self.messages.get("JobEvent").map_or(&[][..], |event| &event.fields);
        let kinds = payloads.iter().filter(|field| field.is_optional && field.schema.get("$ref").is_some());
        let alternatives: Vec<Value> = kinds
            .map(|field| {
                json!({
                    "type": "object",
                    "description": field.comment,
                    "properties": {
                        "event": {"const": field.name},
                        "data": field.schema,
                        "timestamp": {"type": "number", "description": "Seconds since 1970."},
                        "job_id": {"type": "string"},
                        "sequence": {"type": "integer", "minimum": 1, "description": "Its number in the job, from 1, without gaps."},
                    },
                    "required": ["event", "data", "timestamp", "job_id", "sequence"],
                })
            })
            .collect();
        json!({"description": "The `data` of one server-sent event. Readers skip events that they do not know.", "oneOf": alternatives})
    }
}

impl Message {
    fn schema(&self) -> Value {
        let properties: Map<String, Value> = self
            .fields
            .iter()
            .map(|field| {
                let mut schema = field.schema.clone();
                if let Some(schema) = schema.as_object_mut() {
                    schema.insert("description".to_owned(), Value::from(field.comment.as_str()));
                }
                (field.name.clone(), schema)
            })
            .collect();
        let required: Vec<&str> =
            self.fields.iter().filter(|field| !field.is_optional).map(|field| field.name.as_str()).collect();
        json!({"type": "object", "description": self.comment, "properties": properties, "required": required})
    }
}

fn field_of(message: &DescriptorProto, field: &FieldDescriptorProto, comment: String) -> Field {
    let entry = message.nested_type.iter().find(|nested| {
        nested.name() == short(field.type_name())
            && nested.options.as_ref().is_some_and(|options| options.map_entry())
    });
    let (kind, schema) = match entry {
        Some(entry) => {
            let value = entry.field.get(1);
            let (kind, schema) = value.map_or_else(|| (String::new(), json!({})), of_type);
            (format!("map<string, {kind}>"), json!({"type": "object", "additionalProperties": schema}))
        }
        None if field.label() == Label::Repeated => {
            let (kind, schema) = of_type(field);
            (format!("repeated {kind}"), json!({"type": "array", "items": schema}))
        }
        None => of_type(field),
    };
    let is_message = field.r#type() == Type::Message && field.label() != Label::Repeated;
    Field {
        name: field.name().to_owned(),
        comment,
        kind,
        is_optional: is_message || field.oneof_index.is_some(),
        schema,
    }
}

/// Returns a field's type as the proto file writes it, and its schema, without regard to how often it occurs.
fn of_type(field: &FieldDescriptorProto) -> (String, Value) {
    let name = short(field.type_name());
    match field.r#type() {
        Type::Message if name == "Timestamp" => {
            (name.to_owned(), json!({"type": "string", "format": "date-time"}))
        }
        // Open JSON: the value itself.
        Type::Message if name == "Json" => (name.to_owned(), json!({})),
        Type::Message | Type::Enum => (name.to_owned(), reference(name)),
        Type::Bool => ("bool".to_owned(), json!({"type": "boolean"})),
        Type::Uint32 => ("uint32".to_owned(), json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})),
        Type::Int32 => {
            ("int32".to_owned(), json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}))
        }
        Type::Uint64 => ("uint64".to_owned(), json!({"type": "integer", "minimum": 0})),
        Type::String => ("string".to_owned(), json!({"type": "string"})),
        other => (format!("{other:?}").to_lowercase(), json!({})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_comment_and_its_type() {
        let contract = contract();
        assert!(
            contract.calls.len() >= 16 && contract.messages.len() > 60 && contract.enums.len() == 7,
            "{contract:?}"
        );
        for call in &contract.calls {
            assert!(!call.comment.is_empty(), "{}", call.name);
        }
        for (name, message) in &contract.messages {
            for field in &message.fields {
                assert!(!field.comment.is_empty(), "{name}.{}", field.name);
            }
        }
        let states = &contract.enums["JobState"].values;
        assert_eq!(states[2].0, "RUNNING");
        let schemas = contract.schemas();
        assert_eq!(schemas["Job"]["properties"]["labels"], Value::Null);
        assert_eq!(
            schemas["TaskOptions"]["properties"]["labels"]["additionalProperties"],
            json!({"type": "string"})
        );
        assert_eq!(contract.event_schema()["oneOf"].as_array().unwrap().len(), 15);
    }
}
