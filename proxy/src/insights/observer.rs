//! The nodes' changes, for the feed of troubles. Only changes: a node that stays away is one event.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use everlock::observer::{Event, Observer};
use everlock::{Cause, NodeId};

use super::{Insights, TroubleKind};

/// What was told of each node last.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<NodeId, State>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Guarded(Option<Cause>),
    Down,
}

impl Told {
    /// Whether this is news of a node.
    fn is_news(&self, node: &NodeId, state: State) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.insert(node.clone(), state);
        // That a node is there at the start is no trouble.
        before != Some(state) && (before.is_some() || state != State::Up)
    }
}

impl Observer for Insights {
    fn event(&self, event: &Event<'_>) {
        if !self.is_on() {
            return;
        }
        let told = &self.told;
        match event {
            Event::NodeUp { node, .. } if told.is_news(node, State::Up) => {
                let what = "is there again".to_owned();
                self.trouble(TroubleKind::NodeUp, node.to_string(), what);
            }
            Event::NodeDown { node, fault } if told.is_news(node, State::Down) => {
                self.trouble(TroubleKind::NodeDown, node.to_string(), fault.to_string());
            }
            Event::NodeGuarded {
                node,
                remaining,
                cause,
            } if told.is_news(node, State::Guarded(*cause)) => {
                let why = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                let what = remaining.map_or_else(
                    || format!("waits before it votes{why}"),
                    |left| format!("waits {} s before it votes{why}", left.as_secs() + 1),
                );
                self.trouble(TroubleKind::NodeGuarded, node.to_string(), what);
            }
            Event::Unavailable { operation, .. } => {
                let what = format!("no quorum of nodes could be told of {}", an(operation));
                self.trouble(TroubleKind::Unavailable, "nodes".to_owned(), what);
            }
            _ => {}
        }
    }
}

fn an(operation: &str) -> String {
    match operation {
        "extend" => "an extension".to_owned(),
        "release" => "a release".to_owned(),
        other => other.to_owned(),
    }
}
