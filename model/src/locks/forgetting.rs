//! Forgetting what nothing depends on any more, so that fewer states are told apart.
//!
//! Whatever is forgotten here must not change what may still happen.

use super::state::{Kind, Message, Phase, Place, State};
use super::{ATTEMPTS, Config, NODES};
use crate::node::Call;

impl State {
    /// Whether a message can change nothing any more, whenever it arrives, and
    /// nobody listens to the answer. Floors never fall: what is refused stays refused.
    fn is_spent(&self, config: &Config, place: &Place, message: Message) -> bool {
        let index = usize::from(message.client);
        let client = &self.clients[index];
        let attempt = usize::from(message.attempt);
        let current = client.phase != Phase::Idle && client.current() == attempt;
        let call = client.calls[attempt];
        let owner = config.owner(index, call.call());
        let held = match client.kept[attempt] {
            0 => client.tokens[attempt],
            kept => kept,
        };
        let holds = place.node.lock.owner == owner;
        let comes = |other: Message| {
            other.kind == Kind::Acquire
                && config.owner(
                    other.client.into(),
                    self.clients[usize::from(other.client)].calls[usize::from(other.attempt)]
                        .call(),
                ) == owner
        };
        let may_come = place.inbox.messages().any(comes)
            || (0..usize::from(config.clients)).any(|other| {
                let client = &self.clients[other];
                client.begun < config.attempts[other] && config.owner(other, client.call) == owner
            });
        let passed = place.node.floor >= held;
        match message.kind {
            Kind::Acquire => {
                let heard = current && client.phase == Phase::Trying;
                !heard && place.node.floor >= client.tokens[attempt]
            }
            Kind::Undo => place.node.floor >= client.tokens[attempt] && !holds && !may_come,
            Kind::Settle => passed && !(holds && place.node.lock.token <= held),
            Kind::Extend | Kind::ExtendAgain => {
                let heard = current && client.extending;
                passed && !(heard || holds || may_come)
            }
            Kind::Repair => passed,
            Kind::Release => false,
        }
    }

    /// Forgets what nothing that may still happen depends on.
    pub(super) fn normalise(&mut self, config: &Config) {
        // Where floors may fall, or are not asked, what is refused may yet be granted.
        let rules = &config.rules;
        if rules.floor_test && rules.repair_floor_test && rules.guard {
            for number in 0..NODES {
                for message in self.places[number].inbox.messages() {
                    if self.is_spent(config, &self.places[number], message) {
                        self.places[number].inbox.take(message);
                    }
                }
            }
        }
        for index in 0..usize::from(config.clients) {
            let client = &self.clients[index];
            if client.phase != Phase::Trying && !client.extending {
                self.forget_replies(index);
            }
            for attempt in 0..ATTEMPTS {
                let busy = self
                    .places
                    .iter()
                    .any(|place| place.inbox.has_any(index, attempt));
                let client = &mut self.clients[index];
                let current = client.phase != Phase::Idle && client.current() == attempt;
                // One owner's tokens are remembered: they are never the same twice.
                if busy || current || (config.one_owner && index < 2) {
                    continue;
                }
                client.calls[attempt] = Call::default();
                client.tokens[attempt] = 0;
                client.kept[attempt] = 0;
                client.confirmed[attempt] = false;
            }
        }
        // States that differ in the nodes' order only are one.
        self.places.sort_unstable();
    }
}
