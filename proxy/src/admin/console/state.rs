//! The snapshot that the page shows: the nodes, what was seen of the locks, and this process.

use std::sync::Arc;
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use everlock::cluster::NodeStatus;
use everlock::{NodeId, Vote};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::app::App;
use crate::config::{AdminSettings, ShownSetting};
use crate::handlers::health;

/// One snapshot is shared by all who ask within this time: a little less than their interval.
const FRESH: Duration = Duration::from_millis(900);
/// How long a node is given to tell of itself; what it does not tell in time is left out.
const NODE_TIME: Duration = Duration::from_millis(500);

/// Makes snapshots, and keeps the last one.
pub(super) struct State {
    app: Arc<App>,
    facts: Vec<(&'static str, String)>,
    force_release: bool,
    started: Moment,
    last: Mutex<Option<(Moment, Arc<str>)>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot<'a, S: Serialize> {
    /// Milliseconds since the Unix epoch, by this machine's clock.
    at: u64,
    force_release: bool,
    quorum: Quorum,
    seen: S,
    instance: Instance<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Quorum {
    needed: usize,
    clocks_astray: bool,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    #[serde(rename = "node")]
    id: String,
    state: &'static str,
    why: Option<String>,
    votes_in_ms: Option<u64>,
    latency_micros: Option<u64>,
    version: Option<String>,
    clock_offset_micros: Option<i64>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Instance<'a> {
    version: &'static str,
    uptime_ms: u64,
    draining: bool,
    facts: &'a [(&'static str, String)],
}

impl State {
    pub(super) fn new(
        app: &Arc<App>,
        admin: &AdminSettings,
        settings: &[ShownSetting],
        file: Option<&str>,
    ) -> Self {
        Self {
            facts: facts(app, admin, settings, file),
            app: Arc::clone(app),
            force_release: admin.allow_force_release,
            started: SystemClock.now(),
            last: Mutex::default(),
        }
    }

    /// The present snapshot, as JSON on one line. Who comes while it is made waits for it and
    /// shares it.
    pub(super) async fn now(&self) -> Arc<str> {
        let mut last = self.last.lock().await;
        if let Some((at, snapshot)) = &*last
            && SystemClock.now().saturating_since(*at) < FRESH
        {
            return Arc::clone(snapshot);
        }
        let snapshot: Arc<str> = self.make().await.into();
        *last = Some((SystemClock.now(), Arc::clone(&snapshot)));
        snapshot
    }

    async fn make(&self) -> String {
        let app = &self.app;
        let (ready, told) = tokio::join!(app.readiness.now(), app.redlock.node_status(NODE_TIME));
        let nodes = ready.nodes.iter().map(|(id, vote)| {
            let cause = ready.guards.iter().find(|(guarded, _)| guarded == id);
            let told = told.iter().find(|status| status.id == *id);
            node(id, vote, cause.map(|(_, cause)| *cause), told)
        });
        let uptime = SystemClock.now().saturating_since(self.started);
        let snapshot = Snapshot {
            at: SystemClock.wall().as_micros() / 1_000,
            force_release: self.force_release,
            quorum: Quorum {
                needed: ready.quorum,
                clocks_astray: ready.clocks_astray,
                nodes: nodes.collect(),
            },
            seen: app.insights.snapshot(),
            instance: Instance {
                version: env!("CARGO_PKG_VERSION"),
                uptime_ms: crate::api::millis(uptime),
                draining: app.is_leaving(),
                facts: &self.facts,
            },
        };
        serde_json::to_string(&snapshot).expect("our own types are written without fail")
    }
}

fn node(
    id: &NodeId,
    vote: &Vote,
    cause: Option<everlock::Cause>,
    told: Option<&NodeStatus>,
) -> Node {
    let (state, votes_in_ms, why) = health::state(vote, cause);
    let mut node = Node {
        id: id.to_string(),
        state,
        why,
        votes_in_ms,
        latency_micros: None,
        version: None,
        clock_offset_micros: told.and_then(|told| told.clock_offset_us),
        warnings: Vec::new(),
    };
    if let Some(Ok((facts, _))) = told.map(|told| &told.answer) {
        let took = told.map(|told| told.took.as_micros());
        node.latency_micros = took.and_then(|took| u64::try_from(took).ok());
        node.version = Some(format!("{} {}", facts.product, facts.version));
        node.warnings = facts.warnings();
    }
    node
}

/// What does not change while the process runs.
fn facts(
    app: &App,
    admin: &AdminSettings,
    settings: &[ShownSetting],
    file: Option<&str>,
) -> Vec<(&'static str, String)> {
    let shown = |duration: Duration| crate::advisor::shown(crate::api::millis(duration));
    let given = |from: &str| {
        let from = settings.iter().filter(|setting| setting.is_from(from));
        from.map(ShownSetting::name).collect::<Vec<_>>().join(", ")
    };
    let or_none = |text: String| {
        if text.is_empty() {
            "none".to_owned()
        } else {
            text
        }
    };
    let nodes = app.redlock.node_count();
    let mut facts = vec![
        (
            "Nodes",
            format!("{nodes}, of which {} must vote", everlock::majority(nodes)),
        ),
        (
            "Longest lease",
            app.redlock
                .max_lease()
                .map_or_else(|| "not known yet".to_owned(), shown),
        ),
        ("Longest wait", shown(app.limits.max_wait)),
        ("Waiters at most", app.limits.max_waiters.to_string()),
        (
            "Settings file",
            or_none(file.unwrap_or_default().to_owned()),
        ),
    ];
    for (name, from) in [
        ("From the file", "file"),
        ("From variables", "environment"),
        ("From flags", "flag"),
    ] {
        facts.push((name, or_none(given(from))));
    }
    let force = if admin.allow_force_release {
        "allowed"
    } else {
        "off"
    };
    facts.push(("Ending locks by force", force.to_owned()));
    facts
}
