//! What `everlock cluster status` shows of each node.

use everlock::cluster::NodeStatus;
use everlock::protocol::{Bar, bar};
use serde::Serialize;

const GUARDED: &str = "guarded";
/// [`DEFAULT_DRIFT_FACTOR`](everlock::protocol::DEFAULT_DRIFT_FACTOR) in millionths.
const COMPENSATED_PPM: u64 = 10_000;

/// One node, as it is written as JSON; the table shows the same.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    node: String,
    state: &'static str,
    votes: bool,
    /// Milliseconds until it votes, if it waits.
    votes_in: Option<u64>,
    /// Why it does not answer, or waits.
    why: Option<String>,
    version: Option<String>,
    role: Option<&'static str>,
    persistence: Option<&'static str>,
    eviction_policy: Option<String>,
    cluster: Option<String>,
    nodes: Option<usize>,
    max_lease: Option<u64>,
    clock_offset_micros: Option<i64>,
    /// How far the clock is ahead of the other nodes'.
    clock_ahead_of_others_micros: Option<i64>,
    /// What the clock gains on the other nodes', in millionths, once it was watched for a minute.
    clock_drift_ppm: Option<i64>,
    /// The drift that clients take off their leases unless they are told otherwise.
    compensated_drift_ppm: u64,
    warnings: Vec<String>,
}

impl Row {
    fn of(status: &NodeStatus) -> Self {
        let mut row = Self {
            node: status.id.to_string(),
            state: "down",
            votes: status.votes(),
            votes_in: None,
            why: None,
            version: None,
            role: None,
            persistence: None,
            eviction_policy: None,
            cluster: None,
            nodes: None,
            max_lease: None,
            clock_offset_micros: status.clock_offset_us,
            clock_ahead_of_others_micros: None,
            clock_drift_ppm: None,
            compensated_drift_ppm: COMPENSATED_PPM,
            warnings: Vec::new(),
        };
        let (facts, state) = match &status.answer {
            Ok(answer) => answer,
            Err(fault) => {
                row.why = Some(fault.to_string());
                return row;
            }
        };
        (row.state, row.votes_in) = match bar(state.marker.as_ref(), &state.run_id, state.time) {
            None => ("votes", None),
            Some(Bar::Unmarked) => ("not initialised", None),
            Some(Bar::Prepared) => ("being opened", None),
            Some(Bar::Guarded(left)) => (GUARDED, Some(crate::api::millis_up(left))),
            Some(Bar::Restarted) => ("restarted, not judged yet", None),
            Some(Bar::SteppedBack | Bar::WildGuard) => ("clock jumped, not judged yet", None),
        };
        row.version = Some(format!("{} {}", facts.product, facts.version));
        row.role = Some(match (facts.cluster_mode, facts.replica) {
            (true, _) => "cluster mode",
            (false, true) => "replica",
            (false, false) => "primary",
        });
        row.persistence = Some(match facts.durable {
            Some(true) => "every write",
            Some(false) => "not every write",
            None => "unknown",
        });
        row.eviction_policy.clone_from(&facts.eviction);
        row.warnings = facts.warnings();
        if let Some(marker) = &state.marker {
            row.why = marker
                .cause
                .filter(|_| row.state == GUARDED)
                .map(|cause| cause.to_string());
            row.clock_ahead_of_others_micros = marker.clock.baseline.map(|known| known.offset);
            row.clock_drift_ppm = marker.clock.drift_ppm();
            row.cluster = Some(marker.cluster.id.clone());
            row.nodes = Some(marker.cluster.nodes);
            row.max_lease = Some(crate::api::millis(marker.cluster.max_lease));
        }
        row
    }

    fn cells(&self) -> [String; 9] {
        let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let state = match (&self.votes_in, &self.why) {
            (Some(left), why) => {
                let why = why
                    .as_ref()
                    .map_or_else(String::new, |why| format!(": {why}"));
                format!("{} for {} s{why}", self.state, left.div_ceil(1_000))
            }
            (None, Some(why)) => format!("{}: {why}", self.state),
            (None, None) => self.state.to_owned(),
        };
        let offset = self.clock_offset_micros;
        [
            self.node.clone(),
            state,
            text(self.version.as_deref()),
            text(self.role),
            text(self.persistence),
            text(self.eviction_policy.as_deref()),
            self.max_lease
                .map_or_else(|| "-".to_owned(), |lease| format!("{lease} ms")),
            offset.map_or_else(
                || "-".to_owned(),
                |micros| format!("{:+} ms", micros / 1_000),
            ),
            self.clock_drift_ppm.map_or_else(
                || "-".to_owned(),
                |ppm| format!("{ppm:+} of {} ppm", self.compensated_drift_ppm),
            ),
        ]
    }
}

const TITLES: [&str; 9] = [
    "node",
    "state",
    "version",
    "role",
    "persistence",
    "eviction",
    "max lease",
    "clock offset",
    "drift",
];

pub(super) fn print_json(nodes: &[NodeStatus]) {
    let rows: Vec<_> = nodes.iter().map(Row::of).collect();
    let json = serde_json::to_string_pretty(&rows);
    println!("{}", json.expect("our own types are written without fail"));
}

pub(super) fn print_table(nodes: &[NodeStatus]) {
    let rows: Vec<_> = nodes.iter().map(Row::of).collect();
    let mut lines = vec![TITLES.map(ToOwned::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    for line in &lines {
        let cells = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    let clusters: std::collections::BTreeSet<_> = rows
        .iter()
        .filter_map(|row| row.cluster.as_deref())
        .collect();
    for cluster in clusters {
        println!("cluster {cluster}");
    }
    for row in &rows {
        for warning in &row.warnings {
            println!("warning: {}: {warning}", row.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drift_that_is_shown_is_the_one_that_is_compensated_for() {
        let lease = std::time::Duration::from_secs(1_000_000);
        let of = lease.mul_f64(everlock::protocol::DEFAULT_DRIFT_FACTOR);
        assert_eq!(of.as_secs(), COMPENSATED_PPM);
    }
}
