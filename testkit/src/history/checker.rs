//! Judges a history: holders that overlap, tokens that fall or are shared.
//!
//! It takes n log n steps, so that histories of a million holds can be judged.
//! The same owner may hold a lock several times, and be given its token again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::Hold;

/// What a history must not show: the two holds that do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two owners may rely on the lock at once.
    Overlap(Hold, Hold),
    /// The second was asked for when the first had been told, and its token is not higher.
    Inversion(Hold, Hold),
    /// Two owners were given one token.
    Shared(Hold, Hold),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, one, other) = match self {
            Self::Overlap(one, other) => ("two holders at once", one, other),
            Self::Inversion(one, other) => ("tokens do not rise", one, other),
            Self::Shared(one, other) => ("one token for two owners", one, other),
        };
        write!(f, "{what}: {one}; {other}")
    }
}

/// The first violation of each kind on each resource.
pub fn judge(holds: &[Hold]) -> Vec<Violation> {
    let mut by_resource: BTreeMap<usize, Vec<&Hold>> = BTreeMap::new();
    for hold in holds {
        by_resource.entry(hold.resource).or_default().push(hold);
    }
    let mut found = Vec::new();
    for mut holds in by_resource.into_values() {
        holds.sort_by_key(|hold| hold.acquired);
        found.extend(overlap(&holds));
        found.extend(inversion(&holds));
        found.extend(shared(&holds));
    }
    found
}

/// `holds` in the order in which they begin.
fn overlap(holds: &[&Hold]) -> Option<Violation> {
    // The hold that ends last so far, and the one of another owner that does.
    let mut last: Option<&Hold> = None;
    let mut other: Option<&Hold> = None;
    for hold in holds.iter().filter(|hold| hold.end() > hold.acquired) {
        for earlier in [last, other].into_iter().flatten() {
            if earlier.owner != hold.owner && earlier.end() > hold.acquired {
                return Some(Violation::Overlap(earlier.clone(), (*hold).clone()));
            }
        }
        let ends_later = |than: Option<&Hold>| than.is_none_or(|than| hold.end() > than.end());
        if last.is_none_or(|last| last.owner == hold.owner) {
            if ends_later(last) {
                last = Some(hold);
            }
        } else if ends_later(last) {
            other = last.replace(hold);
        } else if ends_later(other) {
            other = Some(hold);
        }
    }
    None
}

/// `holds` in the order in which they were told.
fn inversion(holds: &[&Hold]) -> Option<Violation> {
    let mut asked = holds.to_vec();
    asked.sort_by_key(|hold| hold.asked);
    let mut told = holds.iter().copied().peekable();
    // The highest token told so far, and one of another owner that is as high.
    let mut highest: Option<&Hold> = None;
    let mut rival: Option<&Hold> = None;
    for hold in asked {
        while let Some(earlier) = told.next_if(|earlier| earlier.acquired < hold.asked) {
            match highest {
                Some(top) if top.token > earlier.token => {}
                Some(top) if top.token == earlier.token => {
                    if top.owner != earlier.owner {
                        rival = Some(earlier);
                    }
                }
                _ => (highest, rival) = (Some(earlier), None),
            }
        }
        for earlier in [highest, rival].into_iter().flatten() {
            let again = earlier.token == hold.token && earlier.owner == hold.owner;
            if earlier.token >= hold.token && !again {
                return Some(Violation::Inversion(earlier.clone(), hold.clone()));
            }
        }
    }
    None
}

fn shared(holds: &[&Hold]) -> Option<Violation> {
    let mut owners: HashMap<u64, &Hold> = HashMap::new();
    for hold in holds {
        let first = *owners.entry(hold.token).or_insert(hold);
        if first.owner != hold.owner {
            return Some(Violation::Shared(first.clone(), (*hold).clone()));
        }
    }
    None
}
