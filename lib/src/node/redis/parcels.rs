//! Which of the commands that travel together share one script call.
//!
//! Invariant: commands of one resource stay in their order, and no call has the
//! same resource twice, since a script looks at all its keys at once. Within a
//! call acquires come first, which spares the script to be told what each is.

use std::collections::HashSet;

use crate::core::command::Command;

/// One call: a command of its own, or several that share a script.
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
    let mut parcels = Vec::new();
    let mut open = Vec::with_capacity(items.len());
    let mut inside = HashSet::with_capacity(items.len());
    for item in items {
        let (resource, shares) = (
            command(&item).resource().cloned(),
            shares_calls(command(&item)),
        );
        if let Some(resource) = &resource
            && inside.contains(resource)
        {
            inside.clear();
            parcels.push(closed(std::mem::take(&mut open), &command));
        }
        if shares {
            inside.extend(resource);
            open.push(item);
        } else {
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
    use crate::core::token::FencingToken;
    use crate::core::types::{CallId, OwnerId, Resource};
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
        let same = [release("a"), acquire("a"), release("b"), acquire("c")];
        assert_eq!(packed(&same), (vec![1, 3], vec![0, 1, 3, 2]));
    }

    #[test]
    fn what_shares_no_call_goes_first_unless_it_is_about_a_lock_that_waits() {
        let elsewhere = [release("a"), inspect("b"), release("c"), Command::Ping];
        assert_eq!(packed(&elsewhere), (vec![1, 1, 2], vec![1, 3, 0, 2]));
        let same = [release("a"), inspect("a"), release("a"), release("b")];
        assert_eq!(packed(&same), (vec![1, 1, 2], vec![0, 1, 2, 3]));
    }
}
