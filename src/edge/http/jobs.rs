//! The JSON routes: translate, call the job service, translate back.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    extract::{Extension, Path, RawQuery, Request, State},
};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{
        Operations,
        access::no_caller,
        disconnect::DisconnectSignal,
        operations::{ClientConnection, Origin},
        problem::{json_response, to_response, with_status},
    },
    answers::{
        Accepted, AgentList, AskingJob, ChangedJob, ConversationList, Executed, FailedJob, Info, JobList,
    },
    payload::{Payload, read_noting},
    query::Pairs,
};
use crate::{
    error::{Error, Reason, Result},
    job::{Filter, Submitted},
    pb::{Door, Job, JobState, JobView, job::Outcome},
    principal::Principal,
    text::quoted,
};

type SharedOperations = State<Arc<Operations>>;
type CallerExtension = Extension<Principal>;

/// Returns the caller that the listener identified.
fn caller_of(request: &Request) -> Result<Principal> {
    request.extensions().get::<Principal>().cloned().ok_or_else(no_caller)
}

fn ok(document: &impl serde::Serialize) -> Response<Body> {
    json_response(StatusCode::OK, document, "application/json")
}

fn answer(result: Result<Response<Body>>) -> Response<Body> {
    result.unwrap_or_else(|error| to_response(&error))
}

/// Strips the prefix from an error's field, because the fields of a JSON body are not nested.
fn flat(error: Error) -> Error {
    let field = error.field().map(|field| {
        let prefixes = ["task.tool_call.", "task.agent_run.", "task.", "options."];
        prefixes.iter().find_map(|prefix| field.strip_prefix(prefix)).unwrap_or(field).to_owned()
    });
    match field {
        Some(field) => error.at(field),
        None => error,
    }
}

/// How a body is read.
#[derive(Debug)]
enum BodyForm {
    /// As it is written: as for the earlier gateway if it looks so, and that is allowed.
    Any,
    /// As for the earlier gateway, whose path names the agent, or none.
    Compatible(Option<String>),
}

async fn submit(
    operations: &Operations,
    request: Request,
    connection: ClientConnection,
    form: BodyForm,
) -> Result<(Principal, Submitted, Vec<String>)> {
    let mut origin = Origin::of(request.extensions(), Door::Http)?;
    let headers = request.headers().clone();
    let (mut body, ignored): (Payload, _) = read_noting(request, operations.max_body_bytes()).await?;
    let compatible = match form {
        BodyForm::Compatible(agent_id) => Some(agent_id),
        BodyForm::Any => (operations.is_compatible() && body.is_compatible()).then_some(None),
    };
    if let Some(agent_id) = compatible {
        body = body.compatible(agent_id)?;
        origin.door = Door::Compatibility;
    }
    let (task, options) = body.into_task(&headers).map_err(|error| naming(&ignored, error))?;
    let submitted = operations.submit(&origin, Some(task), options, connection).await.map_err(flat)?;
    Ok((origin.caller, submitted, ignored))
}

/// Adds to "no task was given" what was given instead.
fn naming(ignored: &[String], error: Error) -> Error {
    if ignored.is_empty() || error.reason() != Reason::NoTask {
        return error;
    }
    let names: Vec<String> = ignored.iter().map(|name| format!("`{}`", quoted(name))).collect();
    Error::new(Reason::NoTask, format!("{}; not known here: {}", error.message(), names.join(", ")))
}

/// `POST /execute`: submits a task and waits for its job. 200 means that the job succeeded.
pub(super) async fn execute(State(operations): SharedOperations, request: Request) -> Response<Body> {
    execute_in(operations, request, BodyForm::Any).await
}

/// The same for the paths of the earlier gateway, which may name the agent.
pub(super) async fn execute_compatible(
    State(operations): SharedOperations,
    request: Request,
    agent_id: Option<String>,
) -> Response<Body> {
    execute_in(operations, request, BodyForm::Compatible(agent_id)).await
}

async fn execute_in(operations: Arc<Operations>, request: Request, form: BodyForm) -> Response<Body> {
    let departed = request.extensions().get::<DisconnectSignal>().cloned();
    let run = async {
        let (caller, submitted, ignored) =
            submit(&operations, request, ClientConnection::LeavesJob, form).await?;
        let job = operations.service().wait_or_question(&caller, &submitted.job_id);
        let job = match submitted.held {
            None => job.await?,
            // A client that asked for its job to end with it counts as gone once it half-closes the connection.
            Some(held) => tokio::select! {
                job = job => {
                    held.release();
                    job?
                }
                () = departed_from(departed) => {
                    return Err(Error::new(Reason::Cancelled, "the client has left"));
                }
            },
        };
        Ok(executed(&job, &ignored))
    };
    answer(run.await)
}

/// Waits until an HTTP/1.1 client half-closes its connection; never returns on HTTP/2, where the request itself is dropped.
async fn departed_from(client: Option<DisconnectSignal>) {
    match client {
        Some(client) => client.wait_for_disconnect().await,
        None => std::future::pending().await,
    }
}

/// Returns the error that reports a job's open question.
fn asks(job: &Job) -> Error {
    let prompt = job.question.as_ref().map(|question| question.prompt.as_str()).unwrap_or_default();
    let message = format!(
        "the job asks: {prompt}; answer with POST /api/v1/jobs/{}/input and read /api/v1/stream/{}",
        job.job_id, job.job_id
    );
    Error::new(Reason::InputRequired, message).for_job(&job.job_id)
}

/// Returns the response for a job that has ended or has an open question.
fn executed(job: &Job, ignored_members: &[String]) -> Response<Body> {
    match &job.outcome {
        Some(Outcome::Result(result)) if job.state() == JobState::Succeeded => {
            let is_longer = result.result_bytes as usize > result.text.len();
            ok(&Executed {
                status: "success",
                result: &result.text,
                job_id: &job.job_id,
                is_truncated: result.is_truncated,
                result_bytes: result.result_bytes,
                result_url: is_longer.then(|| format!("/api/v1/jobs/{}/result", job.job_id)),
                structured: result.structured.as_ref(),
                ignored_members,
            })
        }
        outcome => {
            let (reason, message) = match outcome {
                Some(Outcome::Error(error)) => (Reason::from_name(&error.reason), error.message.clone()),
                None if job.state() == JobState::InputRequired => {
                    let asking = AskingJob { state: job.state(), question: job.question.as_ref() };
                    return with_status(&asks(job), 409, &asking);
                }
                _ => (None, "the job's outcome is not known".to_owned()),
            };
            let reason = reason.unwrap_or(Reason::Internal);
            let status = match job.state() {
                JobState::Cancelled | JobState::InputRequired => 409,
                JobState::Failed => reason.http_of_failed_job(),
                _ => 500,
            };
            let error = Error::new(reason, message).for_job(&job.job_id);
            let failed = FailedJob { state: job.state(), is_retryable: reason.codes().is_retryable };
            with_status(&error, status, &failed)
        }
    }
}

/// `POST /api/v1/stream-execute`: submits a task and returns the URL of its events.
pub(super) async fn stream_execute(State(operations): SharedOperations, request: Request) -> Response<Body> {
    let run = async {
        let (_, submitted, ignored) =
            submit(&operations, request, ClientConnection::NotHeld, BodyForm::Any).await?;
        let stream_url = format!("/api/v1/stream/{}", submitted.job_id);
        let mut response = ok(&Accepted {
            job_id: submitted.job_id.as_str(),
            status: "started",
            stream_url: &stream_url,
            ignored_members: &ignored,
        });
        if let Ok(location) = HeaderValue::from_str(&stream_url) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(response)
    };
    answer(run.await)
}

/// Reads the filter of a listing. States and labels may be repeated, or joined by commas in one value; a comma that is not
/// followed by a `key:` belongs to the label's value.
fn filter(query: &Pairs) -> Result<Filter> {
    let names = query.all("state").flat_map(|states| states.split(',')).map(str::trim);
    let states = names
        .filter(|name| !name.is_empty())
        .map(|name| {
            JobState::from_short_name(name).ok_or_else(|| {
                Error::invalid("state", {
                    let names = JobState::short_names().join(", ").to_lowercase();
                    format!("`{}` is no state of a job; there are {names}", quoted(name))
                })
            })
        })
        .collect::<Result<_>>()?;
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for given in query.all("label").filter(|given| !given.is_empty()) {
        let mut last: Option<String> = None;
        for part in given.split(',') {
            match (part.split_once(':'), &last) {
                (Some((key, value)), _) => {
                    labels.insert(key.trim().to_owned(), value.to_owned());
                    last = Some(key.trim().to_owned());
                }
                (None, Some(key)) => {
                    if let Some(value) = labels.get_mut(key) {
                        value.push(',');
                        value.push_str(part);
                    }
                }
                (None, None) => {
                    return Err(Error::invalid(
                        "label",
                        "must be `key:value`, several with commas between them",
                    ));
                }
            }
        }
    }
    Ok(Filter {
        states,
        labels,
        conversation_id: query.one("conversation_id")?.to_owned(),
        text: query.one("text")?.to_owned(),
    })
}

/// Returns how much of each job a listing should contain.
fn view(query: &Pairs) -> Result<JobView> {
    match query.one("view")? {
        "" => Ok(JobView::Summary),
        view if view.eq_ignore_ascii_case("summary") => Ok(JobView::Summary),
        view if view.eq_ignore_ascii_case("full") => Ok(JobView::Full),
        _ => Err(Error::invalid("view", "must be summary or full")),
    }
}

/// `GET /api/v1/jobs?state=&label=&conversation_id=&text=&page_size=&page_token=&view=`.
pub(super) async fn list(
    State(operations): SharedOperations,
    Extension(caller): CallerExtension,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let run = async {
        let query = Pairs::of(query.as_deref());
        let (page_size, filter) = (query.number("page_size")?, filter(&query)?);
        let (page_token, view) = (query.one("page_token")?, view(&query)?);
        let page = operations.jobs(&caller, &filter, (page_size, page_token), view).await?;
        Ok(ok(&JobList { jobs: &page.jobs, next_page_token: &page.next_page_token }))
    };
    answer(run.await)
}

/// `GET /api/v1/jobs/{job_id}`.
pub(super) async fn get(
    State(operations): SharedOperations,
    Extension(caller): CallerExtension,
    Path(job_id): Path<String>,
) -> Response<Body> {
    let run = async { Ok(ok(&operations.job(&caller, &job_id).await?)) };
    answer(run.await)
}

/// `DELETE /api/v1/jobs/{job_id}`.
pub(super) async fn delete(
    State(operations): SharedOperations,
    Extension(caller): CallerExtension,
    Path(job_id): Path<String>,
) -> Response<Body> {
    let run = async {
        operations.delete(&caller, &job_id).await?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    };
    answer(run.await)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CancelBody {
    wait_seconds: u32,
}

/// `POST /api/v1/jobs/{job_id}/cancel`, with an optional `{"wait_seconds": n}`.
pub(super) async fn cancel(
    State(operations): SharedOperations,
    Path(job_id): Path<String>,
    request: Request,
) -> Response<Body> {
    let run = async {
        let caller = caller_of(&request)?;
        let (body, ignored): (CancelBody, _) = read_noting(request, operations.max_body_bytes()).await?;
        let job = operations.cancel(&caller, &job_id, body.wait_seconds).await?;
        Ok(ok(&ChangedJob { job: &job, ignored_members: &ignored }))
    };
    answer(run.await)
}

#[derive(Deserialize)]
struct InputBody {
    input_id: String,
    value: Value,
}

/// `POST /api/v1/jobs/{job_id}/input` with `{"input_id": …, "value": …}`.
pub(super) async fn input(
    State(operations): SharedOperations,
    Path(job_id): Path<String>,
    request: Request,
) -> Response<Body> {
    let run = async {
        let caller = caller_of(&request)?;
        let (body, ignored): (InputBody, _) = read_noting(request, operations.max_body_bytes()).await?;
        let job = operations.send_input(&caller, &job_id, &body.input_id, body.value).await?;
        Ok(ok(&ChangedJob { job: &job, ignored_members: &ignored }))
    };
    answer(run.await)
}

/// `GET /api/v1/conversations?page_size=&page_token=`: the caller's own, most recently used first.
pub(super) async fn conversations(
    State(operations): SharedOperations,
    Extension(caller): CallerExtension,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let list = async {
        let query = Pairs::of(query.as_deref());
        let page_size = query.number("page_size")?;
        let page = operations
            .directory_service()
            .conversations(&caller, page_size, query.one("page_token")?)
            .await?;
        Ok(ok(&ConversationList {
            conversations: &page.conversations,
            next_page_token: &page.next_page_token,
        }))
    };
    answer(list.await)
}

/// `DELETE /api/v1/conversations/{conversation_id}`.
pub(super) async fn delete_conversation(
    State(operations): SharedOperations,
    Extension(caller): CallerExtension,
    Path(conversation_id): Path<String>,
) -> Response<Body> {
    answer(operations.directory_service().delete_conversation(&caller, &conversation_id).await.map(|()| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }))
}

/// `GET /api/v1/agents?page_size=&page_token=`: by id; at most 500, and the token of the next page where there are more.
pub(super) async fn agents(State(operations): SharedOperations, RawQuery(query): RawQuery) -> Response<Body> {
    let list = async {
        let query = Pairs::of(query.as_deref());
        let page = operations.agents(query.number("page_size")?, query.one("page_token")?).await?;
        Ok(ok(&AgentList { agents: &page.agents, next_page_token: &page.next_page_token }))
    };
    answer(list.await)
}

/// `GET /api/v1/tools`.
pub(super) async fn tools(State(operations): SharedOperations) -> Response<Body> {
    ok(&BTreeMap::from([("tools", operations.directory_service().tools())]))
}

/// `GET /api/v1/info`.
pub(super) async fn info(State(operations): SharedOperations) -> Response<Body> {
    let info = operations.info();
    ok(&Info {
        version: &info.version,
        planner: &info.planner,
        planner_reason: &info.planner_reason,
        provider: &info.provider,
        model: &info.model,
        mcp_url: operations.addresses().mcp_url(),
        engine: &info.engine,
        capabilities: &info.capabilities,
        running_jobs: info.running_jobs,
        queued_jobs: info.queued_jobs,
        live_tasks: info.live_tasks,
        limits: info.limits.unwrap_or_default(),
    })
}
