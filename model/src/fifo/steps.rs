//! What becomes of a state in each step, and what is forgotten of it since nothing depends on it.

use everlock::majority;

use super::place::{Order, Place, Reply, Rules, Ticket};
use super::state::{KINDS, Kind, Phase, State, bit, messages};
use super::{Config, NODES, WAITERS};
use crate::Name;

impl State {
    pub(super) fn place(&mut self, name: u8) -> &mut Place {
        let found = self.places.iter().position(|place| place.name.0 == name);
        &mut self.places[found.unwrap_or_default()]
    }

    pub(super) fn standing(&self, waiter: usize) -> usize {
        let stands = |place: &&Place| place.stands & 1 << waiter != 0;
        self.places.iter().filter(stands).count()
    }

    pub(super) fn send(&mut self, waiter: usize, kind: Kind) {
        for place in &mut self.places {
            place.inbox |= bit(waiter, kind);
        }
    }

    /// An attempt begins: who stands where now?
    pub(super) fn begin(&mut self, waiter: usize) {
        self.waiters[waiter].trying = true;
        for place in &mut self.places {
            place.replies[waiter] = Reply::None;
            place.stood[waiter] = place.stands;
        }
    }

    pub(super) fn end(&mut self, waiter: usize) {
        self.waiters[waiter].trying = false;
        for place in &mut self.places {
            place.replies[waiter] = Reply::None;
            place.stood[waiter] = 0;
            if place.inbox & bit(waiter, Kind::Beat) != 0 {
                place.inbox &= !bit(waiter, Kind::Beat);
                place.inbox |= bit(waiter, Kind::OldBeat);
            }
        }
    }

    pub(super) fn propose(&mut self, waiter: usize, ticket: Ticket) {
        if self.waiters[waiter].phase == Phase::Away {
            for other in 0..WAITERS {
                let waits = matches!(self.waiters[other].phase, Phase::Proposing | Phase::InLine);
                if waits && self.standing(other) >= majority(NODES) {
                    self.waiters[other].behind |= 1 << waiter;
                }
            }
        }
        let one = &mut self.waiters[waiter];
        one.phase = Phase::Proposing;
        one.tickets[usize::from(one.proposed)] = ticket;
        one.proposed += 1;
        // Who takes another ticket goes to the end.
        one.behind = 0;
        let kind = KINDS[usize::from(one.proposed) - 1];
        for place in &mut self.places {
            place.stands &= !(1 << waiter);
        }
        self.end(waiter);
        self.begin(waiter);
        self.send(waiter, kind);
    }

    pub(super) fn deliver(&mut self, rules: Rules, node: u8, waiter: usize, kind: Kind) {
        let one = self.waiters[waiter];
        let place = self.place(node);
        place.inbox &= !bit(waiter, kind);
        let present = one.ticket();
        let (heard, reply) = match kind {
            Kind::Propose | Kind::ProposeAgain => {
                let ticket = one.tickets[kind as usize];
                let reply = place.obey(rules, waiter, Order::Propose(ticket));
                if reply != Reply::Refused && ticket == present {
                    place.stands |= 1 << waiter;
                }
                let latest = kind as usize + 1 == usize::from(one.proposed);
                (latest && one.attempts == 0, reply)
            }
            Kind::Beat | Kind::OldBeat => {
                let reply = place.obey(rules, waiter, Order::Beat(present));
                place.stands |= 1 << waiter;
                (kind == Kind::Beat && one.phase == Phase::InLine, reply)
            }
            Kind::Leave => {
                place.stands &= !(1 << waiter);
                (false, place.obey(rules, waiter, Order::Leave(present)))
            }
        };
        if heard && one.trying {
            place.replies[waiter] = reply;
        }
    }

    pub(super) fn win(&mut self, config: &Config, waiter: usize) {
        for other in 0..config.waiters {
            let waits = matches!(self.waiters[other].phase, Phase::Proposing | Phase::InLine);
            let was_before = self.waiters[other].behind & 1 << waiter != 0;
            let stood = |place: &&Place| place.stood[waiter] & 1 << other != 0;
            let stayed = self.places.iter().filter(stood).count() >= majority(NODES);
            let stayed = stayed || config.moving;
            self.overtaken |= other != waiter && waits && was_before && stayed;
        }
        self.leave(waiter, Phase::Won);
    }

    pub(super) fn leave(&mut self, waiter: usize, phase: Phase) {
        self.end(waiter);
        self.waiters[waiter].phase = phase;
        self.waiters[waiter].behind = 0;
        self.send(waiter, Kind::Leave);
    }

    pub(super) fn count(&self, waiter: usize, wanted: fn(Reply) -> bool) -> usize {
        let said = |place: &&Place| wanted(place.replies[waiter]);
        self.places.iter().filter(said).count()
    }

    /// Whether a message can change nothing any more, whenever it arrives, and
    /// nobody listens to the answer.
    pub(super) fn is_spent(
        &self,
        config: &Config,
        place: &Place,
        waiter: usize,
        kind: Kind,
    ) -> bool {
        let one = &self.waiters[waiter];
        let lasting = self.expired == config.expiries && (self.lost || !config.loss);
        let here = place.line[waiter];
        match kind {
            Kind::Propose | Kind::ProposeAgain => {
                let ticket = one.tickets[kind as usize];
                let latest = kind as usize + 1 == usize::from(one.proposed);
                let heard = latest && one.trying && one.attempts == 0;
                !heard && ticket <= place.floor && here == 0
            }
            Kind::OldBeat => {
                here == one.ticket() && lasting && place.inbox & bit(waiter, Kind::Leave) == 0
            }
            Kind::Beat => false,
            Kind::Leave => {
                let leave = bit(waiter, Kind::Leave);
                let others = (0..KINDS.len()).fold(0, |all, kind| all | bit(waiter, KINDS[kind]));
                here == 0 && one.ticket() <= place.floor && place.inbox & others == leave
            }
        }
    }

    pub(super) fn normalise(&mut self, config: &Config) {
        // Where floors may fall, or are not asked, what is refused may yet be accepted.
        let rules = config.rules;
        if rules.floor_test && rules.floor_outlives_line && rules.floor_outlives_loss {
            for number in 0..NODES {
                for (waiter, kind) in messages(self.places[number].inbox) {
                    if self.is_spent(config, &self.places[number], waiter, kind) {
                        self.places[number].inbox &= !bit(waiter, kind);
                    }
                }
            }
        }
        for waiter in 0..config.waiters {
            if self.standing(waiter) < majority(NODES) {
                self.waiters[waiter].behind = 0;
            }
        }
        for place in &mut self.places {
            for waiter in 0..config.waiters {
                // Only who stood before it asked can be overtaken by a waiter.
                let ahead = (0..config.waiters)
                    .filter(|other| self.waiters[*other].behind & 1 << waiter != 0)
                    .fold(0, |all, other| all | 1 << other);
                place.stood[waiter] &= place.stands & ahead;
            }
        }
        // States that differ in the nodes' order only are one.
        self.places.sort_unstable();
    }
}

pub(super) fn named_places() -> [Place; NODES] {
    let mut names = 0..;
    [(); NODES].map(|()| Place {
        name: Name(names.next().unwrap_or_default()),
        ..Place::default()
    })
}
