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
        let fence = name.fence_key().to_string();
        let reserved = Err(InvalidName::Reserved);
        assert!(!OWN_KEYS.contains(&name.as_str()) && !OWN_KEYS.contains(&fence.as_str()));
        // A name of the greatest length has a fence that is longer still.
        let refused = Resource::new(fence.as_str());
        assert!(refused == reserved || matches!(refused, Err(InvalidName::TooLong { .. })));
    }
    let [fence, other] = [&first, &second].map(|name| name.fence_key().to_string());
    assert_eq!(first == second, fence == other, "{one:?} {two:?}");
    assert_ne!(fence, second.as_str());
    assert_ne!(other, first.as_str());
}

/// Whether an acquire would take these options.
#[must_use]
pub fn accepts(options: &AcquireOptions, max_lease: Duration) -> bool {
    options.check(max_lease).is_ok()
}
