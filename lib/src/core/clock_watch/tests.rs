//! Clocks that drift, jump and are looked at over slow networks.

mod world;

use super::*;
use crate::core::marker::{Cause, MarkerCommand};
use proptest::prelude::*;
use world::{ML, SECOND, World, calm, jumps};

#[test]
fn a_jump_is_told_once_whoever_sees_it() {
    let (mut world, mut first) = calm();
    let (mut second, mut third) = (first.clone(), world.watch());
    world.offsets[1] += 60 * SECOND;
    assert_eq!(world.counted(&first, &[0, 1, 2]), 2);
    assert_eq!(world.counted(&first, &[0, 2, 3]), 3);
    let seen = world.quick();
    // Both have looked before either tells.
    let early = second.look(&seen, ML, world.here());
    assert_eq!(jumps(&early), [1]);
    let told = world.look(&mut first, &seen);
    assert_eq!(jumps(&told), [1]);
    let marker = world.markers[1].clone().unwrap();
    assert_eq!(marker.voting_from, world.clock(1).plus(ML));
    let Some(Cause::Jumped { by }) = marker.cause else {
        panic!("{:?}", marker.cause)
    };
    assert!(by.abs_diff(60 * SECOND) < 2_000, "{by}");
    world.now += SECOND;
    let Telling {
        era,
        baseline,
        step,
    } = early[1].unwrap();
    let late = MarkerCommand::Clock {
        era,
        baseline,
        step,
    };
    assert_eq!(world.mark(1, late), marker, "told before");
    for watch in [&mut first, &mut second, &mut third] {
        let seen = world.quick();
        let told = world.look(watch, &seen);
        assert_eq!(jumps(&told), [0; 0]);
        assert_eq!(world.counted(watch, &[0, 1, 2, 3, 4]), 5);
        assert_eq!(world.votes_from(1), marker.voting_from);
    }
    world.now += i64::try_from(ML.as_micros()).unwrap();
    assert!(!world.guarded(1));
}

#[test]
fn a_jump_back_is_told_too_and_the_way_back_again() {
    let (mut world, mut watch) = calm();
    for by in [-60 * SECOND, 60 * SECOND] {
        world.offsets[4] += by;
        let seen = world.quick();
        let told = world.look(&mut watch, &seen);
        assert_eq!(jumps(&told), [4]);
        assert_eq!(world.votes_from(4), world.clock(4).plus(ML));
        world.now += SECOND;
    }
}

#[test]
fn a_node_that_judged_itself_is_told_a_baseline_and_of_no_jump() {
    let (mut world, mut watch) = calm();
    world.offsets[4] -= 60 * SECOND;
    let cluster = world.markers[4].as_ref().unwrap().cluster.clone();
    world.markers[4].as_mut().unwrap().high_water = world.clock(4).plus(ML);
    let guard = MarkerCommand::Guard {
        cluster,
        started: None,
        durable: false,
    };
    let marker = world.mark(4, guard);
    assert_eq!(marker.cause, Some(Cause::SteppedBack));
    world.now += SECOND;
    let seen = world.quick();
    let told = world.look(&mut watch, &seen);
    assert_eq!(jumps(&told), [0; 0]);
    assert_eq!(told[4].map(|told| told.step), Some(ClockStep::Refresh));
    assert_eq!(world.votes_from(4), world.clock(4).plus(ML));
}

#[test]
fn a_node_that_lost_its_marker_is_reminded_and_not_believed_anew() {
    let (mut world, mut watch) = calm();
    let cluster = world.markers[2].as_ref().unwrap().cluster.clone();
    world.markers[2] = None;
    let seen = world.quick();
    assert_eq!(world.look(&mut watch, &seen)[2], None, "not yet");
    let guard = MarkerCommand::Guard {
        cluster,
        started: None,
        durable: false,
    };
    world.mark(2, guard);
    let mut other = watch.clone();
    let seen = world.quick();
    let told = world.look(&mut watch, &seen);
    assert_eq!(told[2].map(|told| told.step), Some(ClockStep::Refresh));
    // As above, but the clock jumped before it was reminded.
    world.markers[2].as_mut().unwrap().clock = ClockRecord::default();
    world.offsets[2] += 60 * SECOND;
    let seen = world.quick();
    assert_eq!(jumps(&world.look(&mut other, &seen)), [2]);
}

#[test]
fn a_majority_that_jumped_apart_stops_all_votes_for_the_longest_lease() {
    let (mut world, mut watch) = calm();
    for node in 0..3 {
        world.offsets[node] += SECOND * (10 + 10 * i64::try_from(node).unwrap());
    }
    for _ in 0..13 {
        let seen = world.quick();
        assert_eq!(world.look(&mut watch, &seen), [None; 5]);
        assert!(watch.is_astray() && world.counted(&watch, &[0, 1, 2, 3, 4]) < 3);
        world.now += 5 * SECOND;
    }
    let seen = world.quick();
    let told = world.look(&mut watch, &seen);
    let rebased = |told: &Option<Telling>| told.is_some_and(|told| told.step == ClockStep::Rebase);
    assert!(told.iter().all(rebased), "{told:?}");
    let seen = world.quick();
    assert_eq!(world.look(&mut watch, &seen), [None; 5]);
    assert!(!watch.is_astray());
    let mut fresh = world.watch();
    world.look(&mut fresh, &seen);
    assert_eq!(world.counted(&fresh, &[0, 1, 2, 3, 4]), 5);
}

#[test]
fn drift_is_measured_over_the_era() {
    let (mut world, mut watch) = calm();
    world.rates[2] = 200;
    for _ in 0..100 {
        world.now += 5 * SECOND;
        let seen = world.quick();
        world.look(&mut watch, &seen);
    }
    let ppm = |node: usize| world.markers[node].as_ref().unwrap().clock.drift_ppm();
    assert!((150..=650).contains(&ppm(2).unwrap()), "{:?}", ppm(2));
    assert!(ppm(0).unwrap().abs() <= 20, "{:?}", ppm(0));
}

/// A client that never saw a node cannot say whether its clock has jumped: it may
/// be the very one that has.
#[test]
fn a_clock_that_was_never_seen_counts_with_no_other() {
    let mut world = World::of(vec![0, 5 * SECOND, -3 * SECOND]);
    let mut first = world.watch();
    let seen = world.quick();
    world.look(&mut first, &seen);
    let mut late = world.watch();
    assert_eq!(world.counted(&late, &[0, 1, 2]), 0, "nothing is known yet");
    let mut seen = world.quick();
    seen[2] = None;
    world.look(&mut late, &seen);
    world.offsets[2] += 60 * SECOND;
    assert_eq!(world.counted(&late, &[1, 2]), 1, "the jump may not count");
    assert_eq!(world.counted(&late, &[0, 1]), 2);
    assert!(late.lacks_any());
    let seen = world.quick();
    let told = world.look(&mut late, &seen);
    assert_eq!(jumps(&told), [2], "the marker says how it stood");
    assert!(!late.lacks_any() && world.guarded(2));
}

#[test]
fn a_clock_that_its_node_found_set_back_is_waited_for_from_its_first_baseline() {
    let (mut world, mut watch) = calm();
    let cluster = world.markers[1].as_ref().unwrap().cluster.clone();
    world.offsets[1] -= 30 * SECOND;
    let found = MarkerCommand::Guard {
        cluster,
        started: None,
        durable: false,
    };
    world.mark(1, found);
    assert!(world.guarded(1));
    // Set ahead before anybody looks, it is past its guard at once.
    world.offsets[1] += 90 * SECOND;
    assert!(!world.guarded(1));
    assert_eq!(
        world.counted(&watch, &[0, 1]),
        1,
        "it is far from where it stood"
    );
    let seen = world.quick();
    world.look(&mut watch, &seen);
    assert_eq!(world.counted(&watch, &[0, 1]), 2, "it has a baseline again");
    assert!(world.guarded(1), "leases from before may be over early");
    let from = world.votes_from(1);
    world.now += SECOND;
    let seen = world.quick();
    world.look(&mut watch, &seen);
    assert_eq!(world.votes_from(1), from, "no witness prolongs it");
}

fn offsets() -> impl Strategy<Value = Vec<i64>> {
    (3usize..=7)
        .prop_flat_map(|nodes| proptest::collection::vec(-90_000 * SECOND..90_000 * SECOND, nodes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Clocks hours apart that part by up to a hundredth, slow answers, nodes
    /// that are not seen, and a clock of the client's own that steps.
    #[test]
    fn nothing_but_a_jump_looks_like_one(
        offsets in offsets(),
        rates in proptest::collection::vec(-5_000i64..=5_000, 7),
        looks in proptest::collection::vec((
            100_000i64..20 * SECOND,
            -500 * SECOND..500 * SECOND,
            proptest::collection::vec((0i64..3, 0i64..2 * SECOND, 0i64..2 * SECOND), 7),
        ), 1..40),
        ) {
        let mut world = World::of(offsets);
        world.rates.copy_from_slice(&rates[..world.offsets.len()]);
        let mut watch = world.watch();
        let seen = world.quick();
        world.look(&mut watch, &seen);
        for (pause, step, nodes) in looks {
            world.now += pause;
            world.local = step;
            let sight = |node: usize| {
                let (kind, before, after) = nodes[node];
                match kind {
                    0 => Some(world.sight(node, (before / 1_000, after / 1_000))),
                    1 => Some(world.sight(node, (before, after))),
                    _ => None,
                }
            };
            let seen: Vec<_> = (0..world.offsets.len()).map(sight).collect();
            let told = world.look(&mut watch, &seen);
            prop_assert_eq!(jumps(&told), [0; 0]);
            prop_assert!(!watch.is_astray());
            let all: Vec<_> = (0..world.offsets.len()).collect();
            prop_assert_eq!(world.counted(&watch, &all), all.len());
            // Who came just now knows the clocks that it has seen, and counts no others.
            let mut fresh = world.watch();
            fresh.look(&seen, ML, world.here());
            let known = seen.iter().flatten().count();
            prop_assert_eq!(world.counted(&fresh, &all), known);
            prop_assert_eq!(fresh.lacks_any(), known < all.len());
        }
    }

    /// A minority that jumped, each node its own way, costs no other node its
    /// vote and gets none, at a client from before as at a fresh one.
    #[test]
    fn a_minority_that_jumped_is_never_in_a_quorum(
        offsets in offsets(),
        by in proptest::collection::vec((any::<bool>(), 300_000i64..4_000 * SECOND), 3),
        alike: bool,
        which in any::<prop::sample::Index>(),
        pause in 0i64..5 * SECOND,
    ) {
        let mut world = World::of(offsets);
        let (nodes, quorum) = (world.offsets.len(), world.offsets.len() / 2 + 1);
        let mut watch = world.watch();
        for _ in 0..2 {
            let seen = world.quick();
            world.look(&mut watch, &seen);
            world.now += 5 * SECOND + pause;
        }
        let first = which.index(nodes);
        let jumped: Vec<_> = (0..nodes - quorum).map(|more| (first + more) % nodes).collect();
        for (node, (back, by)) in jumped.iter().zip(by.iter().cycle().skip(usize::from(!alike))) {
            let (back, by) = if alike { (by > &SECOND, &(7 * SECOND)) } else { (*back, by) };
            world.offsets[*node] += if back { -by } else { *by };
        }
        let sound: Vec<_> = (0..nodes).filter(|node| !jumped.contains(node)).collect();
        let fresh = {
            let mut fresh = world.watch();
            fresh.look(&world.quick(), ML, world.here());
            fresh
        };
        for client in [&watch, &fresh] {
            for node in &jumped {
                let mut with: Vec<_> = sound[1..].to_vec();
                with.push(*node);
                prop_assert!(world.counted(client, &with) < with.len());
                let mut all_jumped = jumped.clone();
                all_jumped.extend(&sound[..quorum - jumped.len()]);
                prop_assert!(world.counted(client, &all_jumped) < quorum);
            }
            prop_assert_eq!(world.counted(client, &sound), sound.len());
        }
        let mut sorted = jumped.clone();
        sorted.sort_unstable();
        let seen = world.quick();
        prop_assert_eq!(jumps(&world.look(&mut watch, &seen)), sorted);
        for node in jumped {
            prop_assert_eq!(world.votes_from(node), world.clock(node).plus(ML));
        }
    }
}
