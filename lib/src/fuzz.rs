//! What must hold whatever is given: the bodies of the fuzz targets, which an
//! ordinary test replays. Each panics where it does not hold.

pub use crate::node::redis::fuzz::replies;

use std::time::Duration;

use crate::config::AcquireOptions;
use crate::core::types::{InvalidName, Resource};

/// Names that belong to everlock itself.
const OWN_KEYS: [&str; 2] = ["everlock~marker", "everlock~gate"];

/// Two names: no key of one is a key of the other, or one of everlock's own;
/// nor do the keys of two identities ever meet.
///
/// The first byte says where the second name begins.
pub fn names(data: &[u8]) {
    let Some((at, names)) = data.split_first() else {
        return;
    };
    let (one, two) = names.split_at(usize::from(*at).min(names.len()));
    let (one, two) = (String::from_utf8_lossy(one), String::from_utf8_lossy(two));
    apart(&one, &two);
    // As the proxy composes them: no segment before the user's own holds ':' or '~'.
    let of = |identity: &str, key: &str| format!("Evermind:{identity}:{key}");
    for (identity, other) in [("a", "b"), ("a", "aa"), ("a", "a-b"), ("anonymous", "a")] {
        let (mine, theirs) = (of(identity, &one), of(other, &two));
        assert_ne!(mine, theirs);
        apart(&mine, &theirs);
        apart(&of(identity, &one), &of(identity, &two));
    }
}

fn apart(one: &str, two: &str) {
    let (Ok(first), Ok(second)) = (Resource::new(one), Resource::new(two)) else {
        return;
    };
    for name in [&first, &second] {
        for key in companions(name) {
            assert!(!OWN_KEYS.contains(&name.as_str()) && !OWN_KEYS.contains(&key.as_str()));
            // A name of the greatest length has a companion that is longer still.
            let refused = Resource::new(key.as_str());
            let reserved = Err(InvalidName::Reserved);
            assert!(refused == reserved || matches!(refused, Err(InvalidName::TooLong { .. })));
        }
    }
    for (kind, key) in companions(&first).iter().enumerate() {
        for (other_kind, other) in companions(&second).iter().enumerate() {
            let same = first == second && kind == other_kind;
            assert_eq!(same, key == other, "{one:?} {two:?}");
            assert!(key != second.as_str() && other != first.as_str());
        }
    }
}

/// The keys that are kept beside a lock's own.
fn companions(of: &Resource) -> [String; 4] {
    [
        of.fence_key().to_string(),
        of.queue_key().to_string(),
        of.beats_key().to_string(),
        of.ticket_key().to_string(),
    ]
}

/// Whether an acquire would take these options.
#[must_use]
pub fn accepts(options: &AcquireOptions, max_lease: Duration) -> bool {
    options.check(max_lease).is_ok()
}
