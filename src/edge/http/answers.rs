//! The JSON answers of this door that are no messages of the contract.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::contract::reference;
use crate::{
    job::Conversation,
    pb::{Agent, InputQuestion, Job, JobState, Json, Limits},
};

/// Returns the schemas of these answers by name.
pub(super) fn schemas() -> Map<String, Value> {
    fn schema_of<T: JsonSchema>() -> Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        settings.into_generator().into_root_schema_for::<T>().to_value()
    }
    let named = [
        ("Executed", schema_of::<Executed<'_>>()),
        ("Accepted", schema_of::<Accepted<'_>>()),
        ("JobList", schema_of::<JobList<'_>>()),
        ("AgentList", schema_of::<AgentList<'_>>()),
        ("ConversationList", schema_of::<ConversationList<'_>>()),
        ("Info", schema_of::<Info<'_>>()),
        ("Health", schema_of::<Health<'_>>()),
        ("Probe", schema_of::<Probe<'_>>()),
    ];
    named.map(|(name, schema)| (name.to_owned(), schema)).into_iter().collect()
}

fn referred(value: Value) -> Schema {
    Schema::try_from(value).unwrap_or_default()
}

fn list_of(name: &str) -> Schema {
    referred(json!({"type": "array", "items": reference(name)}))
}

fn jobs(_: &mut SchemaGenerator) -> Schema {
    list_of("Job")
}

fn agents(_: &mut SchemaGenerator) -> Schema {
    list_of("Agent")
}

fn conversations(_: &mut SchemaGenerator) -> Schema {
    list_of("Conversation")
}

fn limits(_: &mut SchemaGenerator) -> Schema {
    referred(reference("Limits"))
}

/// Of `POST /execute` for a job that succeeded.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Executed<'a> {
    /// Always `success`.
    pub(super) status: &'static str,
    /// The answer as text.
    pub(super) result: &'a str,
    /// The job.
    pub(super) job_id: &'a str,
    /// Whether the answer was cut to fit.
    pub(super) is_truncated: bool,
    /// The length of the whole answer, in bytes.
    pub(super) result_bytes: u32,
    /// Where the whole answer is, if this one is not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result_url: Option<String>,
    /// The answer as data; null where it has none.
    #[schemars(with = "Value")]
    pub(super) structured: Option<&'a Json>,
    /// The members of the request that are not known and had no effect: the first 20, absent if there are none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schemars(default)]
    pub(super) ignored_members: &'a [String],
}

/// What a problem document of `POST /execute` says of the job beside the error.
#[derive(Debug, Serialize)]
pub(super) struct FailedJob {
    /// How the job ended.
    pub(super) state: JobState,
    /// Whether the same task may succeed later.
    pub(super) is_retryable: bool,
}

/// The same for a job that waits for an answer.
#[derive(Debug, Serialize)]
pub(super) struct AskingJob<'a> {
    /// INPUT_REQUIRED.
    pub(super) state: JobState,
    /// What the job asks.
    pub(super) question: Option<&'a InputQuestion>,
}

/// Of `POST /api/v1/stream-execute`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Accepted<'a> {
    /// The job.
    pub(super) job_id: &'a str,
    /// Always `started`.
    pub(super) status: &'static str,
    /// Where its events are.
    pub(super) stream_url: &'a str,
    /// The members of the request that are not known and had no effect: the first 20, absent if there are none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schemars(default)]
    pub(super) ignored_members: &'a [String],
}

/// Of `POST /api/v1/jobs/{job_id}/cancel` and `/input`: the job itself, with one member more.
#[derive(Debug, Serialize)]
pub(super) struct ChangedJob<'a> {
    /// The job.
    #[serde(flatten)]
    pub(super) job: &'a Job,
    /// The members of the request that are not known and had no effect: the first 20, absent if there are none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) ignored_members: &'a [String],
}

/// Of `GET /api/v1/jobs`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct JobList<'a> {
    /// The jobs, newest first.
    #[schemars(schema_with = "jobs")]
    pub(super) jobs: &'a [Job],
    /// The token of the next page; empty on the last one.
    pub(super) next_page_token: &'a str,
}

/// Of `GET /api/v1/agents`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AgentList<'a> {
    /// The agents, by id.
    #[schemars(schema_with = "agents")]
    pub(super) agents: &'a [Agent],
    /// The token of the next page; absent on the last one, because most engines have one page of agents.
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schemars(default)]
    pub(super) next_page_token: &'a str,
}

/// Of `GET /api/v1/conversations`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConversationList<'a> {
    /// The caller's own, most recently used first.
    #[schemars(schema_with = "conversations")]
    pub(super) conversations: &'a [Conversation],
    /// The token of the next page; empty on the last one.
    pub(super) next_page_token: &'a str,
}

/// Of `GET /api/v1/info`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Info<'a> {
    /// The gateway's version.
    pub(super) version: &'a str,
    /// `model` or `direct`.
    pub(super) planner: &'a str,
    /// Why that one.
    pub(super) planner_reason: &'a str,
    /// The model's provider; empty without one.
    pub(super) provider: &'a str,
    /// The model; empty without one.
    pub(super) model: &'a str,
    /// Where MCP is; null where it is disabled.
    pub(super) mcp_url: Option<String>,
    /// The engine's name.
    pub(super) engine: &'a str,
    /// What this build can do.
    pub(super) capabilities: &'a [String],
    /// Jobs that run now.
    pub(super) running_jobs: u32,
    /// Jobs that wait.
    pub(super) queued_jobs: u32,
    /// Tasks of this process.
    pub(super) live_tasks: u64,
    /// How large things may be.
    #[schemars(schema_with = "limits")]
    pub(super) limits: Limits,
}

/// Of `GET /health`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health<'a> {
    /// Always `healthy`.
    pub(super) status: &'static str,
    /// This program.
    pub(super) service: &'static str,
    /// Its version.
    pub(super) version: &'a str,
    /// `model` or `direct`.
    pub(super) mode: &'a str,
    /// The gateway's agent.
    pub(super) agent: HealthOfAgent<'a>,
    /// The engine's name.
    pub(super) engine: &'a str,
    /// Jobs that run now.
    pub(super) running_jobs: u32,
    /// Jobs that wait.
    pub(super) queued_jobs: u32,
    /// Where the doors are.
    pub(super) endpoints: Endpoints,
}

/// The agent's part of `GET /health`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HealthOfAgent<'a> {
    /// `model` or `direct`.
    pub(super) planner: &'a str,
    /// The model's provider; empty without one.
    pub(super) provider: &'a str,
    /// The model; empty without one.
    pub(super) model: &'a str,
    /// Why this planner and this model.
    pub(super) reason: &'a str,
    /// Model servers that were found here and are not used.
    pub(super) found_on_this_machine: Vec<FoundServer<'a>>,
}

/// A model server of this machine.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FoundServer<'a> {
    /// Where it is.
    pub(super) base_url: &'a str,
    /// What speaks its protocol.
    pub(super) provider: &'a str,
    /// The models that it lists.
    pub(super) models: &'a [String],
}

/// The addresses in `GET /health`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Endpoints {
    /// gRPC, grpc-web, SSE and JSON.
    pub(super) api: String,
    /// MCP; null where it is disabled.
    pub(super) mcp: Option<String>,
    /// The probe's path.
    pub(super) health: &'static str,
}

/// Of the probes.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Probe<'a> {
    /// `live`, `ready`, or what is against it.
    pub(super) status: &'a str,
}
