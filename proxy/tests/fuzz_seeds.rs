//! Input that nobody thought of: the fuzzers' seeds, and mutations of them,
//! through what the fuzzers run; see `fuzz/README.md`.

use everlock_proxy::fuzz;
use everlock_testkit::replay_seeds;

const MUTATIONS: u32 = 20_000;

#[test]
fn requests_are_within_their_bounds_or_refused_by_name() {
    replay_seeds("requests", MUTATIONS, fuzz::requests);
}

#[test]
fn configurations_are_within_their_bounds_or_refused_with_their_source() {
    replay_seeds("configuration", MUTATIONS, fuzz::configuration);
}
