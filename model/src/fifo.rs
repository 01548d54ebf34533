//! Waiting in line: tickets on nodes that may forget, over a network that
//! delivers what it likes when it likes. This comes before the code: what the
//! rules below keep, the library will be built to.
//!
//! The locks themselves are left out: a node grants to whoever is first in its
//! line, each time it is asked. Everything for which a real node refuses, a
//! holder, a floor, a guard, a lock that was taken out of turn, is to the line the
//! same as a request that was lost, so nothing that can happen is missing.
//! The node's rules are held to the library's `Register` by `tests/queue.rs`.
//!
//! **P5.** A waiter who stood in line on a quorum of nodes when another one first
//! asked is not overtaken by it, as long as it stands on some quorum at each
//! moment, and on one and the same quorum throughout the attempt that would
//! overtake it.

use everlock::majority;
use stateright::{Model, Property};

use crate::Name;

/// How many nodes there are.
pub const NODES: usize = 3;
/// The most waiters.
pub const WAITERS: usize = 3;
/// The most tickets that one waiter proposes.
pub const PROPOSALS: usize = 2;

/// A place in line; zero is none.
pub type Ticket = u8;

/// Which rules are on. All are, except where a test wants to see what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and every combination means something"
)]
pub struct Rules {
    /// A proposed ticket at or below the ticket floor is refused.
    pub floor_test: bool,
    /// The floor outlives the last ticket in line.
    pub floor_outlives_line: bool,
    /// A node that lost its data refuses what it may have forgotten.
    pub floor_outlives_loss: bool,
    /// Only the lowest ticket is granted.
    pub first_only: bool,
    /// A ticket stays when its owner is granted the lock.
    pub grant_keeps_ticket: bool,
    /// Only a ticket that a quorum accepted may enter where the floor has passed it.
    pub quorum_accepts: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            floor_test: true,
            floor_outlives_line: true,
            floor_outlives_loss: true,
            first_only: true,
            grant_keeps_ticket: true,
            quorum_accepts: true,
        }
    }
}

/// What is explored.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many waiters, up to [`WAITERS`].
    pub waiters: usize,
    /// How many tickets each proposes at most, up to [`PROPOSALS`].
    pub proposals: [u8; WAITERS],
    /// Tickets from 1 to this one are proposed, whatever the time.
    pub tickets: Ticket,
    /// How many attempts each waiter makes after that of its proposal.
    pub attempts: u8,
    /// How many tickets expire at most, dead or not.
    pub expiries: u8,
    /// Whether a node may lose all its data, once.
    pub loss: bool,
    /// Tickets that become possible when the longest lease after the loss is over.
    pub later_tickets: Ticket,
    /// Whether waiters may give up.
    pub leaving: bool,
    /// Whether standing on some quorum at each moment is called enough. It is not:
    /// a waiter whose tickets expire on one node and come on another, both while a
    /// rival's attempt is under way, is passed on the one before and the other after.
    pub moving: bool,
    /// The rules.
    pub rules: Rules,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            waiters: 2,
            proposals: [1; WAITERS],
            tickets: 2,
            attempts: 1,
            expiries: 1,
            loss: false,
            later_tickets: 0,
            leaving: false,
            moving: false,
            rules: Rules::default(),
        }
    }
}

/// Messages to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Stand in line under a new ticket, and try; the waiter's first.
    Propose,
    /// And its second, in place of the first.
    ProposeAgain,
    /// Enter, or stay, under an accepted ticket, and try.
    Beat,
    /// The same, of an attempt that is over.
    OldBeat,
    /// Leave.
    Leave,
}

const KINDS: [Kind; 5] = [
    Kind::Propose,
    Kind::ProposeAgain,
    Kind::Beat,
    Kind::OldBeat,
    Kind::Leave,
];

/// What a waiter knows of a node's answer in its present attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    /// None.
    #[default]
    None,
    /// The ticket was refused.
    Refused,
    /// In line, and not first.
    InLine,
    /// Granted.
    Granted,
}

/// What a node is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stand in line under a new ticket, and try.
    Propose(Ticket),
    /// Enter, or stay, under an accepted ticket, and try.
    Beat(Ticket),
    /// Leave, and refuse this ticket.
    Leave(Ticket),
}

/// A node: its line, what is under way to it, what each waiter heard of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    name: Name,
    line: [Ticket; WAITERS],
    floor: Ticket,
    inbox: u16,
    replies: [Reply; WAITERS],
    /// Who stands here under its present ticket by the rules: what the rules that
    /// are switched off take away still counts.
    stands: u8,
    /// Who has stood here ever since this waiter's attempt began.
    stood: [u8; WAITERS],
}

/// What a waiter is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has not asked.
    #[default]
    Away,
    /// Its ticket is not known to be accepted.
    Proposing,
    /// A quorum accepted its ticket.
    InLine,
    /// It won, and left the line.
    Won,
    /// It left.
    Left,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Waiter {
    phase: Phase,
    proposed: u8,
    tickets: [Ticket; PROPOSALS],
    attempts: u8,
    /// Whether an attempt is under way.
    trying: bool,
    /// Who first asked when this one stood on a quorum, which it has done since.
    behind: u8,
}

impl Waiter {
    fn ticket(self) -> Ticket {
        self.tickets[usize::from(self.proposed.max(1)) - 1]
    }
}

/// A state of everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    places: [Place; NODES],
    waiters: [Waiter; WAITERS],
    expired: u8,
    lost: bool,
    later: bool,
    overtaken: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for place in &self.places {
            let number = place.name.0;
            write!(f, "\n  node {number}: floor {}, line", place.floor)?;
            for (waiter, ticket) in place.line.iter().enumerate() {
                if *ticket > 0 {
                    write!(f, " {waiter}:{ticket}")?;
                }
            }
            for (waiter, kind) in messages(place.inbox) {
                write!(f, "; under way: {kind:?} of {waiter}")?;
            }
        }
        for (number, waiter) in self.waiters.iter().enumerate() {
            if waiter.phase == Phase::Away {
                continue;
            }
            let trying = if waiter.trying { ", trying" } else { "" };
            write!(
                f,
                "\n  waiter {number}: {:?} with ticket {}{trying}",
                waiter.phase,
                waiter.ticket()
            )?;
        }
        Ok(())
    }
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A waiter proposes a ticket: its first, or another one instead.
    Propose {
        /// Who.
        waiter: u8,
        /// Which.
        ticket: Ticket,
    },
    /// A message arrives.
    Deliver {
        /// Where.
        node: u8,
        /// Whose.
        waiter: u8,
        /// Which.
        kind: Kind,
    },
    /// A waiter learns that a quorum accepted its ticket.
    Accepted {
        /// Who.
        waiter: u8,
    },
    /// A waiter begins an attempt, which is a heartbeat.
    Try {
        /// Who.
        waiter: u8,
    },
    /// A waiter gives its attempt up, and stays in line.
    GiveUpAttempt {
        /// Who.
        waiter: u8,
    },
    /// A quorum granted: the waiter wins, and leaves the line.
    Win {
        /// Who.
        waiter: u8,
    },
    /// A waiter gives up.
    Leave {
        /// Who.
        waiter: u8,
    },
    /// A ticket's heartbeats have not come for too long.
    Expire {
        /// Where.
        node: u8,
        /// Whose.
        waiter: u8,
    },
    /// A node loses its data.
    Lose {
        /// Which.
        node: u8,
    },
    /// The longest lease has passed since the loss.
    Later,
}

const fn bit(waiter: usize, kind: Kind) -> u16 {
    1 << (waiter * KINDS.len() + kind as usize)
}

fn messages(inbox: u16) -> impl Iterator<Item = (usize, Kind)> {
    (0..WAITERS).flat_map(move |waiter| {
        KINDS
            .into_iter()
            .filter(move |kind| inbox & bit(waiter, *kind) != 0)
            .map(move |kind| (waiter, kind))
    })
}

fn number(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

impl Place {
    /// Who stands in line, and under which ticket; zero is not there.
    pub const fn line(&self) -> [Ticket; WAITERS] {
        self.line
    }

    /// Does as it is told, by these rules; [`Reply::None`] says that it left the line.
    pub fn obey(&mut self, rules: Rules, waiter: usize, order: Order) -> Reply {
        let ticket = match order {
            Order::Propose(ticket) => {
                if !self.propose(rules, waiter, ticket) {
                    return Reply::Refused;
                }
                ticket
            }
            Order::Beat(ticket) => {
                self.enter(waiter, ticket);
                ticket
            }
            Order::Leave(ticket) => {
                // A proposal that arrives later is refused.
                self.floor = self.floor.max(ticket);
                self.remove(rules, waiter);
                return Reply::None;
            }
        };
        if self.grants(rules, waiter, ticket) {
            Reply::Granted
        } else {
            Reply::InLine
        }
    }

    /// A ticket's heartbeats have not come for too long.
    pub fn expire(&mut self, rules: Rules, waiter: usize) {
        self.remove(rules, waiter);
    }

    /// All data is lost; tickets up to this one may have been accepted.
    pub fn lose(&mut self, rules: Rules, tickets: Ticket) {
        self.line = [0; WAITERS];
        self.floor = if rules.floor_outlives_loss {
            tickets
        } else {
            0
        };
    }

    /// A ticket is proposed, instead of any that the waiter had here. Whether it is accepted.
    fn propose(&mut self, rules: Rules, waiter: usize, ticket: Ticket) -> bool {
        if self.line[waiter] >= ticket {
            return self.line[waiter] == ticket;
        }
        self.line[waiter] = 0;
        if rules.floor_test && ticket <= self.floor {
            return false;
        }
        self.enter(waiter, ticket);
        true
    }

    fn enter(&mut self, waiter: usize, ticket: Ticket) {
        self.line[waiter] = ticket;
        self.floor = self.floor.max(ticket);
    }

    fn remove(&mut self, rules: Rules, waiter: usize) {
        self.line[waiter] = 0;
        if !rules.floor_outlives_line && self.line == [0; WAITERS] {
            self.floor = 0;
        }
    }

    /// Whether this very ticket is first in line, and so is granted.
    fn grants(&mut self, rules: Rules, waiter: usize, ticket: Ticket) -> bool {
        let first = (0..WAITERS)
            .filter(|other| self.line[*other] > 0)
            .min_by_key(|other| (self.line[*other], *other));
        let granted = first == Some(waiter) && self.line[waiter] == ticket || !rules.first_only;
        if granted && !rules.grant_keeps_ticket {
            self.remove(rules, waiter);
        }
        granted
    }
}

impl State {
    fn place(&mut self, name: u8) -> &mut Place {
        let found = self.places.iter().position(|place| place.name.0 == name);
        &mut self.places[found.unwrap_or_default()]
    }

    fn standing(&self, waiter: usize) -> usize {
        let stands = |place: &&Place| place.stands & 1 << waiter != 0;
        self.places.iter().filter(stands).count()
    }

    fn send(&mut self, waiter: usize, kind: Kind) {
        for place in &mut self.places {
            place.inbox |= bit(waiter, kind);
        }
    }

    /// An attempt begins: who stands where now?
    fn begin(&mut self, waiter: usize) {
        self.waiters[waiter].trying = true;
        for place in &mut self.places {
            place.replies[waiter] = Reply::None;
            place.stood[waiter] = place.stands;
        }
    }

    fn end(&mut self, waiter: usize) {
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

    fn propose(&mut self, waiter: usize, ticket: Ticket) {
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

    fn deliver(&mut self, rules: Rules, node: u8, waiter: usize, kind: Kind) {
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

    fn win(&mut self, config: &Config, waiter: usize) {
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

    fn leave(&mut self, waiter: usize, phase: Phase) {
        self.end(waiter);
        self.waiters[waiter].phase = phase;
        self.waiters[waiter].behind = 0;
        self.send(waiter, Kind::Leave);
    }

    fn count(&self, waiter: usize, wanted: fn(Reply) -> bool) -> usize {
        let said = |place: &&Place| wanted(place.replies[waiter]);
        self.places.iter().filter(said).count()
    }

    /// Whether a message can change nothing any more, whenever it arrives, and
    /// nobody listens to the answer.
    fn is_spent(&self, config: &Config, place: &Place, waiter: usize, kind: Kind) -> bool {
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

    fn normalise(&mut self, config: &Config) {
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

fn named_places() -> [Place; NODES] {
    let mut names = 0..;
    [(); NODES].map(|()| Place {
        name: Name(names.next().unwrap_or_default()),
        ..Place::default()
    })
}

/// P5, as the tests name it.
pub const IN_TURN: &str = "P5: who stood in line before is not overtaken";

impl Model for Config {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            places: named_places(),
            waiters: [Waiter::default(); WAITERS],
            expired: 0,
            lost: false,
            later: false,
            overtaken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for index in 0..self.waiters {
            self.waiter_actions(state, index, actions);
        }
        for place in &state.places {
            let node = place.name.0;
            for (waiter, kind) in messages(place.inbox) {
                let waiter = number(waiter);
                actions.push(Action::Deliver { node, waiter, kind });
            }
            for waiter in 0..self.waiters {
                if place.line[waiter] > 0 && state.expired < self.expiries {
                    let waiter = number(waiter);
                    actions.push(Action::Expire { node, waiter });
                }
            }
            if self.loss && !state.lost {
                actions.push(Action::Lose { node });
            }
        }
        if state.lost && !state.later && self.later_tickets > 0 {
            actions.push(Action::Later);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Propose { waiter, ticket } => state.propose(waiter.into(), ticket),
            Action::Deliver { node, waiter, kind } => {
                state.deliver(self.rules, node, waiter.into(), kind);
            }
            Action::Accepted { waiter } => {
                state.waiters[usize::from(waiter)].phase = Phase::InLine;
            }
            Action::Try { waiter } => {
                let waiter = usize::from(waiter);
                state.waiters[waiter].attempts += 1;
                state.end(waiter);
                state.begin(waiter);
                state.send(waiter, Kind::Beat);
            }
            Action::GiveUpAttempt { waiter } => state.end(waiter.into()),
            Action::Win { waiter } => state.win(self, waiter.into()),
            Action::Leave { waiter } => state.leave(waiter.into(), Phase::Left),
            Action::Expire { node, waiter } => {
                let place = state.place(node);
                place.stands &= !(1 << waiter);
                place.expire(self.rules, waiter.into());
                state.expired += 1;
            }
            Action::Lose { node } => {
                let place = state.place(node);
                place.stands = 0;
                place.lose(self.rules, self.tickets);
                state.lost = true;
            }
            Action::Later => state.later = true,
        }
        state.normalise(self);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(IN_TURN, |_, state: &State| !state.overtaken),
            Property::sometimes("everybody wins", |config: &Self, state: &State| {
                let waiters = &state.waiters[..config.waiters];
                waiters.iter().all(|waiter| waiter.phase == Phase::Won)
            }),
            Property::sometimes(
                "the second to ask waits behind the first",
                |_, state: &State| {
                    let behind =
                        |waiter: &Waiter| waiter.behind != 0 && waiter.phase == Phase::InLine;
                    let second =
                        |waiter: &Waiter| waiter.behind == 0 && waiter.phase == Phase::InLine;
                    state.waiters.iter().any(behind) && state.waiters.iter().any(second)
                },
            ),
            Property::sometimes(
                "one wins while another waits",
                |config: &Self, state: &State| {
                    let [first, second, _] = &state.waiters;
                    config.waiters > 1 && first.phase == Phase::Won && second.phase == Phase::InLine
                },
            ),
        ];
        if self.proposals.iter().any(|most| *most > 1) {
            properties.push(Property::sometimes(
                "a second ticket wins",
                |_, state: &State| {
                    let again =
                        |waiter: &Waiter| waiter.proposed == 2 && waiter.phase == Phase::Won;
                    state.waiters.iter().any(again)
                },
            ));
        }
        if self.later_tickets > 0 {
            properties.push(Property::sometimes(
                "after the loss all nodes take new tickets",
                |config: &Self, state: &State| {
                    let new = |place: &Place| place.line.iter().any(|one| *one > config.tickets);
                    state.places.iter().all(new)
                },
            ));
        }
        properties
    }
}

impl Config {
    fn waiter_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let one = &state.waiters[index];
        let waiter = number(index);
        let waits = matches!(one.phase, Phase::Proposing | Phase::InLine);
        // A ticket that was accepted is kept; another one is higher.
        let proposes = matches!(one.phase, Phase::Away | Phase::Proposing);
        if proposes && one.proposed < self.proposals[index] {
            let lowest = if one.proposed > 0 {
                one.ticket() + 1
            } else {
                1
            };
            let highest = self.tickets + if state.later { self.later_tickets } else { 0 };
            for ticket in lowest..=highest {
                actions.push(Action::Propose { waiter, ticket });
            }
        }
        let in_line = |reply| matches!(reply, Reply::InLine | Reply::Granted);
        let needed = if self.rules.quorum_accepts {
            majority(NODES)
        } else {
            1
        };
        if one.phase == Phase::Proposing && state.count(index, in_line) >= needed {
            actions.push(Action::Accepted { waiter });
        }
        if one.phase == Phase::InLine && one.attempts < self.attempts {
            actions.push(Action::Try { waiter });
        }
        if one.trying && one.phase == Phase::InLine {
            actions.push(Action::GiveUpAttempt { waiter });
        }
        if waits && state.count(index, |reply| reply == Reply::Granted) >= majority(NODES) {
            actions.push(Action::Win { waiter });
        }
        if waits && self.leaving {
            actions.push(Action::Leave { waiter });
        }
    }
}
