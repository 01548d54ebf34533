//! The request id: the client's if it is sane, else one of ours; sent back either way.

use everlock::entropy::{Entropy as _, SystemEntropy};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const MAX_BYTES: usize = 128;

pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(HEADER).filter(|id| is_sane(id.as_bytes()));
    given.cloned().unwrap_or_else(fresh)
}

/// Visible ASCII cannot forge a line of the log.
fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn fresh() -> HeaderValue {
    let (high, low) = (SystemEntropy.bits(), SystemEntropy.bits());
    let id = format!("{high:016x}{low:016x}");
    HeaderValue::from_str(&id).expect("hexadecimal digits are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(text: &[u8]) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(text).unwrap());
        of(&headers)
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        assert_eq!(of_text(b"abc-123"), "abc-123");
        let long = [b'x'; MAX_BYTES + 1];
        for insane in [
            &b""[..],
            b"with space",
            b"t\tab",
            "\u{e4}".as_bytes(),
            &long,
        ] {
            let id = of_text(insane);
            assert!(id.len() == 32 && id != insane, "{insane:?}");
        }
    }
}
