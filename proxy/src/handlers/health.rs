//! Whether the process is alive, and whether it can serve locks.
//!
//! `/healthz` never asks a node: restarting a proxy brings no node back.

use everlock::{Cause, Vote};
use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::api::millis_up;
use crate::app::App;

/// Seconds after which readiness may have changed.
const RETRY_AFTER: u64 = 1;

/// The process runs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    status: &'static str,
}

/// Whether locks can be served, and what every node says.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness<'a> {
    ready: bool,
    status: &'static str,
    quorum: usize,
    nodes: Vec<Node<'a>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    #[serde(rename = "node")]
    id: &'a str,
    state: &'static str,
    /// Milliseconds until a guarded node votes again, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    votes_in: Option<u64>,
    /// What is wrong with it, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    why: Option<String>,
}

pub(crate) fn alive() -> Answer {
    Answer::json(StatusCode::OK, &Health { status: "ok" })
}

pub(crate) async fn ready(app: &App) -> Answer {
    let seen = app.readiness.now().await;
    let knows = app.gate.is_ready();
    let ready = seen.is_ready() && knows && !app.is_leaving();
    let status = match (app.is_leaving(), ready) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) if seen.is_ready() && !knows => "which API keys are deleted is not known",
        (false, false) if seen.clocks_astray => "the nodes' clocks jumped apart",
        (false, false) => "no quorum of nodes votes",
    };
    let cause = |node| {
        let mut guards = seen.guards.iter();
        guards.find(|(id, _)| id == node).map(|(_, cause)| *cause)
    };
    let nodes = seen.nodes.iter();
    let nodes = nodes.map(|(id, vote)| node(id.as_str(), vote, cause(id)));
    let body = Readiness {
        ready,
        status,
        quorum: seen.quorum,
        nodes: nodes.collect(),
    };
    if ready {
        return Answer::json(StatusCode::OK, &body);
    }
    let mut answer = Answer::json(StatusCode::SERVICE_UNAVAILABLE, &body);
    answer.retry_after = Some(RETRY_AFTER);
    answer
}

fn node<'a>(id: &'a str, vote: &Vote, cause: Option<Cause>) -> Node<'a> {
    let (state, votes_in, why) = state(vote, cause);
    Node {
        id,
        state,
        votes_in,
        why,
    }
}

/// A node's state, in how many milliseconds it votes if it waits, and what is wrong with it.
pub(crate) fn state(
    vote: &Vote,
    cause: Option<Cause>,
) -> (&'static str, Option<u64>, Option<String>) {
    match vote {
        Vote::Pong => ("up", None, None),
        Vote::Guarded { remaining } => {
            let votes_in = remaining.map(millis_up);
            let why = cause.map_or_else(|| vote.to_string(), |cause| cause.to_string());
            ("guarded", votes_in, Some(why))
        }
        other => ("down", None, Some(other.to_string())),
    }
}
