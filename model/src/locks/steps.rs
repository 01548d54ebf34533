//! What becomes of a state in each step.

use everlock::majority;
use everlock::protocol::{Counts, ExtendOutcome, Step as Judged};

use super::state::{Kind, Message, Phase, Place, Reply, State};
use super::{Config, NODES};
use crate::Name;
use crate::node::{Command, Token, Vote};

impl State {
    pub(super) fn highest_won(&self) -> Token {
        u8::try_from(31_u32.saturating_sub(self.won.leading_zeros())).unwrap_or(0)
    }

    pub(super) fn place(&mut self, name: u8) -> &mut Place {
        let found = self.places.iter().position(|place| place.name.0 == name);
        &mut self.places[found.unwrap_or_default()]
    }

    pub(super) fn send_all(&mut self, message: Message) {
        for place in &mut self.places {
            place.inbox.put(message);
        }
    }

    pub(super) fn forget_replies(&mut self, client: usize) {
        for place in &mut self.places {
            place.replies[client] = Reply::None;
        }
    }

    pub(super) fn propose(&mut self, config: &Config, index: usize, token: Token) {
        self.clients[index].seen = self.highest_won();
        let client = &mut self.clients[index];
        let attempt = usize::from(client.begun);
        client.begun += 1;
        client.attempt += 1;
        client.phase = Phase::Trying;
        client.before_loss = false;
        client.calls[attempt] = client.present_call();
        client.tokens[attempt] = token;
        client.kept[attempt] = 0;
        debug_assert!(client.begun <= config.attempts[index]);
        self.forget_replies(index);
        self.send_all(message(Kind::Acquire, index, attempt));
    }

    pub(super) fn deliver(&mut self, config: &Config, node: u8, message: Message, again: bool) {
        let command = config.command(self, message);
        let limit = config.limit(self);
        let clients = self.clients;
        let place = self.place(node);
        let vote = place.node.apply(&config.rules, limit, command);
        if !again {
            place.inbox.take(message);
        }
        let index = usize::from(message.client);
        let client = &clients[index];
        let attempt = usize::from(message.attempt);
        let current = client.current() == attempt;
        let follow_up = |kind| Message { kind, ..message };
        match message.kind {
            Kind::Acquire if client.phase == Phase::Trying && current => {
                let reply = &mut place.replies[index];
                if *reply == Reply::None {
                    *reply = match vote {
                        Vote::Granted => Reply::Granted,
                        Vote::Again(token) => Reply::Again(token),
                        _ => Reply::Refused,
                    };
                }
            }
            // Another call's grant won: what its own proposal left goes.
            Kind::Acquire if client.kept[attempt] != 0 => {
                let left = match vote {
                    Vote::Granted => true,
                    Vote::Again(token) => token != client.kept[attempt],
                    _ => false,
                };
                if left {
                    place.inbox.put(follow_up(Kind::Undo));
                }
            }
            Kind::Extend | Kind::ExtendAgain => {
                let asked = [Kind::Extend, Kind::ExtendAgain][usize::from(client.extended == 2)];
                if client.extending && current && message.kind == asked {
                    place.replies[index] = match vote {
                        Vote::Extended(token, lease) if token == client.token => {
                            Reply::Extended(lease)
                        }
                        Vote::Absent => Reply::Absent,
                        _ => Reply::Refused,
                    };
                } else if client.confirmed[attempt] && vote == Vote::Absent {
                    place.inbox.put(follow_up(Kind::Repair));
                }
            }
            Kind::Release => {
                let Command::Release { token, .. } = command else {
                    return;
                };
                let over = matches!(vote, Vote::Released(ended) if ended >= token);
                if config.rules.settle && !over {
                    place.inbox.put(follow_up(Kind::Settle));
                }
            }
            _ => {}
        }
    }

    pub(super) fn decide(&mut self, config: &Config, index: usize, time_out: bool) -> bool {
        if self.clients[index].extending {
            return self.decide_extension(index, time_out);
        }
        let attempt = self.clients[index].current();
        let (step, to_undo) = Config::judge(self, index, time_out);
        let won = match step {
            Judged::Wait => return false,
            Judged::Won(won) => Some(u8::try_from(won.token.as_u64()).unwrap_or(u8::MAX)),
            Judged::Lost(_) => None,
        };
        let Some(token) = won else {
            self.clients[index].phase = Phase::Idle;
            for node in to_undo {
                self.places[node]
                    .inbox
                    .put(message(Kind::Undo, index, attempt));
            }
            return true;
        };
        let own = self.clients[index].tokens[attempt] == token;
        let (seen, bit) = (self.clients[index].seen, 1 << token);
        // Asking twice for one acquisition is one acquisition.
        let pair = config.one_owner && index < 2;
        let shared = pair && self.won_by_pair & bit != 0;
        self.disordered |= token < seen || (self.won & bit != 0 && !shared);
        self.disordered |= !own && !pair;
        self.won |= bit;
        if pair {
            self.won_by_pair |= bit;
        }
        let client = &mut self.clients[index];
        client.phase = Phase::Holding;
        client.valid = true;
        client.token = token;
        client.lease = 0;
        client.extended = 0;
        client.handed = 0;
        if !own {
            client.kept[attempt] = token;
            for place in &mut self.places {
                let left = match place.replies[index] {
                    Reply::Granted => true,
                    Reply::Again(other) => other != token,
                    _ => false,
                };
                if left {
                    place.inbox.put(message(Kind::Undo, index, attempt));
                }
            }
        }
        true
    }

    fn decide_extension(&mut self, index: usize, time_out: bool) -> bool {
        let attempt = self.clients[index].current();
        let replies = self.places.map(|place| place.replies[index]);
        let count = |wanted: fn(&Reply) -> bool| replies.iter().filter(|one| wanted(one)).count();
        let silent = count(|reply| *reply == Reply::None);
        let counts = Counts {
            done: count(|reply| matches!(reply, Reply::Extended(_))),
            other: count(|reply| *reply == Reply::Refused),
            absent: count(|reply| *reply == Reply::Absent),
            unknown: if time_out { silent } else { 0 },
            pending: if time_out { 0 } else { silent },
        };
        let Some(outcome) = counts.extend() else {
            return false;
        };
        let client = &mut self.clients[index];
        client.extending = false;
        if outcome != ExtendOutcome::Extended {
            return true;
        }
        client.confirmed[attempt] = true;
        let mut confirmed: Vec<u8> = replies
            .iter()
            .filter_map(|reply| match reply {
                Reply::Extended(lease) => Some(*lease),
                _ => None,
            })
            .collect();
        confirmed.sort_unstable_by(|a, b| b.cmp(a));
        let lease = confirmed[majority(NODES) - 1];
        if lease > client.lease {
            client.lease = lease;
            client.valid = true;
            client.before_loss = client.extension_before_loss;
        }
        for place in &mut self.places {
            if place.replies[index] == Reply::Absent {
                place.inbox.put(message(Kind::Repair, index, attempt));
            }
        }
        true
    }

    /// A section of the same process follows. It had asked, at the latest, when the
    /// grant was asked for; or now, where nobody looks at that.
    pub(super) fn hand_on(&mut self, config: &Config, index: usize) {
        let asked_at = if config.rules.cohort {
            self.clients[index].seen
        } else {
            self.highest_won()
        };
        let client = &mut self.clients[index];
        client.handed += 1;
        let token = client.token + client.handed;
        self.disordered |= token < asked_at || self.won & (1 << token) != 0;
        self.won |= 1 << token;
    }

    pub(super) fn release(&mut self, config: &Config, index: usize) {
        let attempt = self.clients[index].current();
        let token = self.clients[index].token;
        // Calls of one owner that share a grant are one holder.
        for other in 0..usize::from(config.clients) {
            let shares = config.one_owner && other < 2 && index < 2;
            let client = &mut self.clients[other];
            if other == index || (shares && client.phase == Phase::Holding && client.token == token)
            {
                client.phase = Phase::Idle;
                client.valid = false;
                client.extending = false;
                client.token = 0;
                client.lease = 0;
                client.extended = 0;
                client.handed = 0;
                client.call += 1;
                client.attempt = 0;
            }
        }
        self.send_all(message(Kind::Release, index, attempt));
    }
}

pub(super) fn message(kind: Kind, client: usize, attempt: usize) -> Message {
    Message {
        kind,
        client: u8::try_from(client).unwrap_or(u8::MAX),
        attempt: u8::try_from(attempt).unwrap_or(u8::MAX),
    }
}

pub(super) fn named_places() -> [Place; NODES] {
    let mut names = 0..;
    [(); NODES].map(|()| Place {
        name: Name(names.next().unwrap_or_default()),
        ..Place::default()
    })
}
