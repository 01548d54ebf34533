//! Hazard: input that nobody thought of. The fuzzers' seeds, and mutations of
//! them, through what the fuzzers run; see `fuzz/README.md`.

use everlock::fuzz;
use everlock_testkit::replay_seeds;

const MUTATIONS: u32 = 20_000;

#[test]
fn replies_of_servers_mean_what_they_say_or_nothing() {
    replay_seeds("replies", MUTATIONS, fuzz::replies);
}

#[test]
fn keys_of_two_resources_never_meet() {
    replay_seeds("names", MUTATIONS, fuzz::names);
}
