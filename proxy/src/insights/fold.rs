//! Which group a key belongs to: its text with the parts that count or identify folded together.
//!
//! The rule: a UUID becomes `{uuid}`; a word of sixteen or more hexadecimal digits, a decimal one
//! among them, becomes `{hex}`; every other run of decimal digits becomes `#`; what is longer than
//! 96 bytes then ends in `…`. So `order:1041:pay` and `order:7:pay` are one group, `order:#:pay`.

/// The longest name of a group, in bytes.
const LONGEST: usize = 96;
/// Hexadecimal digits in the parts of a UUID.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];
const UUID_LEN: usize = 36;
/// A hexadecimal word of this length is no word.
const HEX: usize = 16;

pub(super) fn group(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut name = String::with_capacity(key.len().min(LONGEST + 4));
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        // At the beginning of a word only, so that the middle of one is never looked at twice.
        let begins = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let folded = if begins {
            identifier(&bytes[at..])
        } else {
            None
        };
        let folded = folded.or_else(|| digits(&bytes[at..]));
        let Some((text, length)) = folded else {
            at += 1;
            continue;
        };
        name.push_str(&key[copied..at]);
        name.push_str(text);
        at += length;
        copied = at;
        if name.len() > LONGEST {
            break;
        }
    }
    name.push_str(&key[copied..]);
    cut(name)
}

/// A UUID or a hexadecimal word, and how long it is.
fn identifier(bytes: &[u8]) -> Option<(&'static str, usize)> {
    let word = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric());
    let word = &bytes[..word.count()];
    if !word.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    if word.len() == UUID[0] && is_uuid(bytes) {
        return Some(("{uuid}", UUID_LEN));
    }
    let identifies = word.len() >= HEX
        && word.iter().any(u8::is_ascii_digit)
        && word.iter().any(u8::is_ascii_alphabetic);
    identifies.then_some(("{hex}", word.len()))
}

fn is_uuid(bytes: &[u8]) -> bool {
    let Some(text) = bytes.get(..UUID_LEN) else {
        return false;
    };
    let ends = bytes
        .get(UUID_LEN)
        .is_none_or(|next| !next.is_ascii_alphanumeric());
    let mut parts = text.split(|byte| *byte == b'-');
    let fits = |length: &usize| {
        parts
            .next()
            .is_some_and(|part| part.len() == *length && part.iter().all(u8::is_ascii_hexdigit))
    };
    ends && UUID.iter().all(fits)
}

fn digits(bytes: &[u8]) -> Option<(&'static str, usize)> {
    let run = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    (run > 0).then_some(("#", run))
}

fn cut(mut name: String) -> String {
    if name.len() > LONGEST {
        name.truncate(name.floor_char_boundary(LONGEST));
        name.push('…');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_that_differ_in_numbers_and_identifiers_alone_are_one_group() {
        let all = [
            ("order:1041:pay", "order:#:pay"),
            ("order:7:pay", "order:#:pay"),
            ("a1b22", "a#b#"),
            ("u/0195b2a4-7c1e-7d7e-8f2a-1d0c5b6a7e8f/x", "u/{uuid}/x"),
            ("0195B2A4-7C1E-7D7E-8F2A-1D0C5B6A7E8F", "{uuid}"),
            ("blob:9f86d081884c7d659a2feaa0c55ad015", "blob:{hex}"),
            ("12345678901234567890", "#"),
            ("deadbeefdeadbeef", "deadbeefdeadbeef"),
            ("nightly report", "nightly report"),
            ("größe-12", "größe-#"),
            ("0195b2a4-7c1e", "#b#a#-#c#e"),
        ];
        for (key, expected) in all {
            assert_eq!(group(key), expected, "{key}");
        }
    }

    proptest! {
        #[test]
        fn any_key_has_a_short_name_that_folds_to_itself_or_shorter(key in "\\PC{0,600}") {
            let name = group(&key);
            prop_assert!(name.len() <= LONGEST + '…'.len_utf8());
            prop_assert!(!name.bytes().any(|byte| byte.is_ascii_digit()));
        }
    }
}
