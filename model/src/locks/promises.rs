//! What must hold in every state, and what must be seen in some.

use stateright::Property;

use super::state::{Client, Message, Phase, Place, State};
use super::{CLIENTS, Config, REPAIRS, first_call};
use crate::node::Call;

/// P1, as the tests name it.
pub const ONE_HOLDER: &str = "P1: at most one holder within its validity";
/// P2.
pub const TOKENS_RISE: &str = "P2: tokens are unique and rise";
/// P4.
pub const NOTHING_LEFT: &str = "P4: what was given up or released leaves nothing";
/// No resource is refused for ever.
pub const STAYS_OPEN: &str = "no floor lies beyond what may be granted";

/// The promises of a configuration.
pub(super) fn of(config: &Config) -> Vec<Property<Config>> {
    let mut properties = vec![
        Property::always(TOKENS_RISE, |_, state: &State| !state.disordered),
        Property::always(STAYS_OPEN, |config: &Config, state: &State| {
            let limit = config.limit(state);
            state.places.iter().all(|place| place.node.floor <= limit)
        }),
        Property::sometimes("a lock is won after a release", |_, state: &State| {
            let released = (0..CLIENTS).any(|index| state.clients[index].call > first_call(index));
            released && state.clients.iter().any(|client| client.valid)
        }),
        Property::sometimes(
            "a rival's attempt fails and is undone",
            |_, state: &State| {
                let held = state.clients.iter().any(|client| client.valid);
                let failed = |client: &Client| client.phase == Phase::Idle && client.attempt > 0;
                held && state.clients.iter().any(failed)
            },
        ),
    ];
    // Each wins under a token of its own.
    if config.clients <= config.tokens {
        properties.push(Property::sometimes(
            "each client wins",
            |config: &Config, state: &State| {
                (0..usize::from(config.clients)).all(|index| {
                    let client = &state.clients[index];
                    client.call > first_call(index) || client.phase == Phase::Holding
                })
            },
        ));
    }
    if !config.duplicates {
        properties.push(Property::always(NOTHING_LEFT, nothing_is_left));
    }
    if !config.early {
        properties.push(Property::always(ONE_HOLDER, one_holder));
    }
    if config.extensions > 0 {
        properties.push(Property::sometimes(
            "a lease is extended",
            |_, state: &State| state.clients.iter().any(|client| client.lease > 0),
        ));
        properties.push(Property::sometimes(
            "a node is repaired",
            |_, state: &State| {
                let repaired = |place: &Place| {
                    (0..CLIENTS).any(|client| {
                        let client = u8::try_from(client).unwrap_or(u8::MAX);
                        let call = |attempt| Call::new(REPAIRS + client, attempt);
                        (1..=3).any(|attempt| place.node.lock.shares.have(call(attempt)))
                    })
                };
                state.places.iter().any(repaired)
            },
        ));
    }
    if config.one_owner {
        properties.push(Property::sometimes(
            "asked again, it has the same grant",
            |_, state: &State| {
                let [one, other, _] = &state.clients;
                one.valid && other.valid && one.token == other.token
            },
        ));
    }
    if config.reserve > 0 {
        properties.push(Property::sometimes(
            "a lock that was handed on is won by another, above",
            |_, state: &State| {
                let handed = state.clients.iter().any(|client| client.handed > 0);
                let won = |client: &Client| client.valid && client.handed == 0;
                handed && state.clients.iter().any(won)
            },
        ));
    }
    if config.loss && config.rules.guard {
        properties.push(Property::sometimes(
            "after the guard the node votes",
            |_, state: &State| {
                let held = state.clients.iter().any(|client| client.valid);
                let voted = |place: &Place| place.node.lock.token > 0;
                state.later && held && state.places.iter().all(voted)
            },
        ));
    }
    properties
}

fn one_holder(config: &Config, state: &State) -> bool {
    let mut holders = (0..usize::from(config.clients))
        .filter(|index| state.clients[*index].valid)
        .map(|index| config.owner(index, state.clients[index].call));
    let first = holders.next();
    holders.all(|other| Some(other) == first)
}

/// Where everything of an owner that is done has arrived, the owner has no lock.
fn nothing_is_left(config: &Config, state: &State) -> bool {
    let clients = || 0..usize::from(config.clients);
    let is_busy = |owner: u8| {
        clients().any(|index| {
            let client = &state.clients[index];
            client.phase != Phase::Idle && config.owner(index, client.call) == owner
        })
    };
    state.places.iter().all(|place| {
        let owner = place.node.lock.owner;
        let expected = |message: Message| {
            let client = usize::from(message.client);
            let call = state.clients[client].calls[usize::from(message.attempt)];
            config.owner(client, call.call()) == owner
        };
        owner == 0 || is_busy(owner) || place.inbox.messages().any(expected)
    })
}
