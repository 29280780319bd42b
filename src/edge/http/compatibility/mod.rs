//! What clients of the earlier gateway and its web page call and read. It can be switched off (`server.compatibility`).
//!
//! Their paths submit the same tasks as every other; what only they read is a text form of its own, for jobs that came this
//! way. docs/compatibility.md lists each call.

mod events;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Request, State},
};
use http::{Response, StatusCode};
use serde::Serialize;

use super::{
    super::{
        Operations,
        problem::{json_response, to_response},
    },
    jobs,
};
use crate::error::Result;

pub(super) use events::COMPATIBLE_EVENTS;

/// An agent as the earlier gateway listed it.
#[derive(Serialize)]
struct ListedAgent<'a> {
    id: &'a str,
    agent_id: &'a str,
    name: &'a str,
    description: &'a str,
}

#[derive(Serialize)]
struct ListedAgents<'a> {
    agents: Vec<ListedAgent<'a>>,
}

/// `GET /api/agents`.
pub(super) async fn agents(State(operations): State<Arc<Operations>>) -> Response<Body> {
    let answer: Result<_> = async {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let page = operations.agents(0, &token).await?;
            all.extend(page.agents);
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(all);
            }
        }
    }
    .await;
    match answer {
        Ok(all) => {
            let agents = all.iter().map(|agent| ListedAgent {
                id: &agent.agent_id,
                agent_id: &agent.agent_id,
                name: &agent.agent_id,
                description: &agent.description,
            });
            json_response(StatusCode::OK, &ListedAgents { agents: agents.collect() }, "application/json")
        }
        Err(error) => to_response(&error),
    }
}

/// `POST /api/agents/{agent_id}/execute`: the agent of the path is told what the body says.
pub(super) async fn execute_agent(
    operations: State<Arc<Operations>>,
    Path(agent_id): Path<String>,
    request: Request,
) -> Response<Body> {
    jobs::execute_compatible(operations, request, Some(agent_id)).await
}

/// `POST /conductor/execute` and `POST /execute-agent`: as `POST /execute`.
pub(super) async fn execute(operations: State<Arc<Operations>>, request: Request) -> Response<Body> {
    jobs::execute_compatible(operations, request, None).await
}
