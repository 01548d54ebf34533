//! Fencing tokens of leases: opaque texts whose order is that of their tenures.

use std::fmt;
use std::sync::Arc;

/// A fencing token. Its text says nothing but which of two tenures of one lease is
/// the later one: the greater text, byte by byte. Tokens of different leases, or of
/// different backends, don't compare.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(Arc<str>);

/// The digits of the largest number of 64 bits.
const DIGITS: usize = 20;

impl LeaseToken {
    /// The token with this text; for backends of other make. Its texts must rise.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The token with these numbers, the first one foremost: padded with zeros, so
    /// that the order of the texts is that of the numbers.
    #[must_use]
    pub fn of_numbers(numbers: &[u64]) -> Self {
        let padded = numbers.iter().map(|number| format!("{number:0DIGITS$}"));
        Self(padded.collect::<Vec<_>>().join("-").into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseToken({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_of_tokens_is_that_of_their_numbers(one: [u64; 2], other: [u64; 2]) {
            let tokens = [one, other].map(|numbers| LeaseToken::of_numbers(&numbers));
            prop_assert_eq!(tokens[0].cmp(&tokens[1]), one.cmp(&other));
            prop_assert_eq!(tokens[0].as_str().cmp(tokens[1].as_str()), one.cmp(&other));
        }
    }

    #[test]
    fn a_tenth_tenure_is_later_than_a_ninth() {
        assert!(LeaseToken::of_numbers(&[10]) > LeaseToken::of_numbers(&[9]));
        assert!(LeaseToken::of_numbers(&[u64::MAX]) > LeaseToken::of_numbers(&[1 << 53]));
    }
}
