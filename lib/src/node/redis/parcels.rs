//! Which of the commands that travel together share one script call.
//!
//! A release and the acquire of whoever is next have a call of their own, which passes
//! the lock on: to be called at all is half of what a node spends on either of them.
//!
//! Invariant: commands of one resource stay in their order, and no other call has the
//! same resource twice, since a script looks at all its keys at once. Within a
//! call acquires come first, which spares the script to be told what each is; where a
//! release comes first, the lock is passed on.

use std::collections::{HashMap, HashSet};

use crate::core::command::Command;
use crate::core::types::Resource;

/// One call: a command of its own, two that pass a lock on, or several that share a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parcel<T> {
    pub(super) items: Vec<T>,
}

/// Whether a command can share its call with others.
pub(super) const fn shares_calls(command: &Command) -> bool {
    matches!(
        command,
        Command::Acquire { .. } | Command::Release { .. } | Command::PassOn { .. }
    )
}

/// Packs what travels together into calls.
pub(super) fn pack<T>(items: Vec<T>, command: impl Fn(&T) -> &Command) -> Vec<Parcel<T>> {
    let mut parcels: Vec<Parcel<T>> = Vec::new();
    let mut open: Vec<T> = Vec::with_capacity(items.len());
    let mut inside: HashSet<Resource> = HashSet::with_capacity(items.len());
    // The calls that release a lock in turn, as long as nothing about it comes after them.
    let mut let_go = HashMap::new();
    for item in items {
        let (resource, shares) = (
            command(&item).resource().cloned(),
            shares_calls(command(&item)),
        );
        let before = resource.as_ref().and_then(|of| let_go.remove(of));
        if let (Some(before), Command::AcquireInTurn { .. }) = (before, command(&item)) {
            let before: &mut Parcel<T> = &mut parcels[before];
            before.items.push(item);
            continue;
        }
        if let Some(resource) = &resource
            && inside.contains(resource)
        {
            let of = |other: &T| command(other).resource() == Some(resource);
            if matches!(command(&item), Command::Acquire { .. })
                && let Some(at) = open.iter().position(of)
                && !matches!(command(&open[at]), Command::Acquire { .. })
            {
                inside.remove(resource);
                let items = vec![open.remove(at), item];
                parcels.push(Parcel { items });
                continue;
            }
            inside.clear();
            parcels.push(closed(std::mem::take(&mut open), &command));
        }
        if shares {
            inside.extend(resource);
            open.push(item);
        } else {
            if matches!(command(&item), Command::ReleaseInTurn { .. }) {
                let_go.extend(resource.map(|of| (of, parcels.len())));
            }
            parcels.push(Parcel { items: vec![item] });
        }
    }
    if !open.is_empty() {
        parcels.push(closed(open, &command));
    }
    parcels
}

fn closed<T>(mut items: Vec<T>, command: impl Fn(&T) -> &Command) -> Parcel<T> {
    items.sort_by_key(|item| !matches!(command(item), Command::Acquire { .. }));
    Parcel { items }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::command::Turn;
    use crate::core::token::FencingToken;
    use crate::core::types::{CallId, OwnerId};
    use std::time::Duration;

    fn release(name: &str) -> Command {
        let (resource, owner) = (Resource::new(name).unwrap(), OwnerId::new("o").unwrap());
        let token = FencingToken::new(1);
        Command::Release {
            resource,
            owner,
            token,
        }
    }

    fn acquire(name: &str) -> Command {
        Command::Acquire {
            resource: Resource::new(name).unwrap(),
            owner: OwnerId::new("o").unwrap(),
            lease: Duration::from_secs(1),
            call: CallId::new(1),
            token: FencingToken::new(1),
            reserve: 0,
        }
    }

    fn release_in_turn(name: &str) -> Command {
        Command::ReleaseInTurn {
            resource: Resource::new(name).unwrap(),
            owner: OwnerId::new("o").unwrap(),
            token: FencingToken::new(1),
            call: CallId::new(1),
            ticket: FencingToken::new(1),
        }
    }

    fn acquire_in_turn(name: &str) -> Command {
        Command::AcquireInTurn {
            resource: Resource::new(name).unwrap(),
            owner: OwnerId::new("o").unwrap(),
            lease: Duration::from_secs(1),
            call: CallId::new(2),
            token: FencingToken::new(2),
            turn: Turn {
                ticket: FencingToken::new(2),
                accepted: true,
            },
        }
    }

    fn inspect(name: &str) -> Command {
        let resource = Resource::new(name).unwrap();
        Command::Inspect { resource }
    }

    /// The sizes of the calls, and the order in which commands are sent.
    fn packed(commands: &[Command]) -> (Vec<usize>, Vec<usize>) {
        let numbered = commands.iter().cloned().enumerate().collect();
        let parcels = pack(numbered, |(_, command)| command);
        let sizes = parcels.iter().map(|parcel| parcel.items.len()).collect();
        let sent = parcels.into_iter().flat_map(|parcel| parcel.items);
        (sizes, sent.map(|(number, _)| number).collect())
    }

    #[test]
    fn different_locks_share_a_call_and_the_same_lock_never_does() {
        let commands = ["a", "b", "a", "c", "c"].map(release);
        assert_eq!(packed(&commands).0, [2, 2, 1]);
        assert_eq!(packed(&commands).1, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn acquires_come_first_in_a_call_and_the_same_lock_keeps_its_order() {
        let mixed = [release("a"), acquire("b"), release("c"), acquire("d")];
        assert_eq!(packed(&mixed), (vec![4], vec![1, 3, 0, 2]));
        let same = [acquire("a"), release("a"), release("b"), acquire("c")];
        assert_eq!(packed(&same), (vec![1, 3], vec![0, 3, 1, 2]));
    }

    #[test]
    fn a_release_and_the_next_acquire_of_its_lock_have_a_call_of_their_own() {
        let passed = [release("b"), release("a"), acquire("c"), acquire("a")];
        assert_eq!(packed(&passed), (vec![2, 2], vec![1, 3, 2, 0]));
        // What comes after them stays behind them.
        let after = [release("a"), acquire("a"), release("a"), inspect("a")];
        assert_eq!(packed(&after), (vec![2, 1, 1], vec![0, 1, 2, 3]));
        let twice = [release("a"), acquire("a"), release("a"), acquire("a")];
        assert_eq!(packed(&twice), (vec![2, 2], vec![0, 1, 2, 3]));
    }

    #[test]
    fn a_lock_is_passed_on_in_turn_unless_something_about_it_comes_between() {
        let passed = [release_in_turn("a"), release("b"), acquire_in_turn("a")];
        assert_eq!(packed(&passed), (vec![2, 1], vec![0, 2, 1]));
        for between in [acquire("a"), inspect("a"), release_in_turn("a")] {
            let (sizes, sent) =
                packed(&[release_in_turn("a"), between.clone(), acquire_in_turn("a")]);
            let last = if between == release_in_turn("a") {
                vec![1, 2]
            } else {
                vec![1, 1, 1]
            };
            assert_eq!((sizes, sent), (last, vec![0, 1, 2]), "{between:?}");
        }
        // Strict order and the other kind are different scripts.
        let mixed = [release_in_turn("a"), acquire("a")];
        assert_eq!(packed(&mixed).0, [1, 1]);
        let mixed = [release("a"), acquire_in_turn("a")];
        assert_eq!(packed(&mixed).0, [1, 1]);
    }

    #[test]
    fn what_shares_no_call_goes_first_unless_it_is_about_a_lock_that_waits() {
        let elsewhere = [release("a"), inspect("b"), release("c"), Command::Ping];
        assert_eq!(packed(&elsewhere), (vec![1, 1, 2], vec![1, 3, 0, 2]));
        let same = [release("a"), inspect("a"), release("a"), release("b")];
        assert_eq!(packed(&same), (vec![1, 1, 2], vec![0, 1, 2, 3]));
    }
}
