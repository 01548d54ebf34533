//! API keys that carry their own proof.
//!
//! A key is `everlock_`, then base32 of what it claims and of a keyed signature over that, then a
//! checksum by which scanners for leaked secrets tell a key from noise without asking anybody.
//! Any proxy that has the signing secret can verify it; nothing is stored for a key that lives.
//!
//! Invariant: each key has one spelling, and what was verified is what was signed. Neither keys
//! nor secrets are shown by `Debug`.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use everlock::entropy::{Entropy as _, SystemEntropy};
use ring::hmac;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{Identity, is_name};
use crate::config::Secret;

/// By what scanners find keys that leaked.
const PREFIX: &str = "everlock_";
/// The longest key there can be, with room; longer texts are not looked at.
pub(crate) const MAX_API_KEY_CHARS: usize = 512;
/// Nobody guesses one in 2^128.
const TAG_BYTES: usize = 16;
/// Base32 of a CRC-32.
const CHECKSUM_CHARS: usize = 7;
/// What a key claims begins with one of these; another would be another format.
const PLAIN: u8 = 1;
const LICENSED: u8 = 2;
/// Keep the uses of one secret apart.
const FOR_KEYS: &[u8] = b"everlock api key\0";
const FOR_LICENCES: &[u8] = b"everlock licence\0";
const FOR_NAMES: &[u8] = b"everlock secret\0";

/// Which API key: 128 random bits, no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct KeyId(pub(super) [u8; 16]);

impl KeyId {
    fn fresh() -> Self {
        let (high, low) = (SystemEntropy.bits(), SystemEntropy.bits());
        Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

/// An API key, to hand to its owner once.
pub(crate) struct ApiKey(String);

impl ApiKey {
    /// The key itself: a secret.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The licence that a key was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LicenceClaim {
    /// How the backend calls it; no secret.
    pub(crate) reference: String,
    /// A keyed hash of the licence key, by which its holder proves that the API key is theirs.
    owner: [u8; TAG_BYTES],
}

/// What a verified key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) identity: Identity,
    pub(crate) licence: Option<LicenceClaim>,
    pub(crate) id: KeyId,
    /// Which of the secrets signed it.
    pub(crate) secret: usize,
}

/// The signing secrets: the first signs, all verify.
pub(crate) struct Secrets(Vec<hmac::Key>);

impl Secrets {
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        let keys = secrets.iter();
        let keys = keys.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.reveal()));
        Self(keys.collect())
    }

    /// Public names of the secrets, to keep what belongs to each apart.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.0.iter().map(|key| tag(key, FOR_NAMES, b""));
        names
            .map(|tag| BASE32_NOPAD.encode(&tag[..10]).to_ascii_lowercase())
            .collect()
    }

    /// A new key of this identity; `licence` is its reference and its key.
    pub(crate) fn issue(&self, identity: &Identity, licence: Option<(&str, &str)>) -> ApiKey {
        let signer = self.0.first().expect("settings have a secret at least");
        let mut bytes = vec![if licence.is_some() { LICENSED } else { PLAIN }];
        put_name(&mut bytes, identity.as_str());
        if let Some((reference, licence_key)) = licence {
            put_name(&mut bytes, reference);
            bytes.extend(tag(signer, FOR_LICENCES, licence_key.as_bytes()));
        }
        bytes.extend(KeyId::fresh().0);
        bytes.extend(tag(signer, FOR_KEYS, &bytes));
        let mut text = PREFIX.to_owned() + &encode(&bytes);
        text += &checksum(&text);
        ApiKey(text)
    }

    /// What the key says, if one of the secrets signed it.
    pub(crate) fn verify(&self, text: &str) -> Option<Verified> {
        if text.len() > MAX_API_KEY_CHARS || !text.is_ascii() {
            return None;
        }
        let body = text.strip_prefix(PREFIX)?;
        let (signed, given) = text.split_at_checked(text.len().checked_sub(CHECKSUM_CHARS)?)?;
        if checksum(signed) != given {
            return None;
        }
        let bytes = decode(body.strip_suffix(given)?)?;
        let (claims, given) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        let made_by = |key| bool::from(tag(key, FOR_KEYS, claims).ct_eq(given));
        let secret = self.0.iter().position(made_by)?;
        read(claims, secret)
    }

    /// Whether the key was made from this licence key.
    pub(crate) fn is_of_licence(&self, key: &Verified, licence_key: &str) -> bool {
        let Some(licence) = &key.licence else {
            return false;
        };
        let owner = tag(&self.0[key.secret], FOR_LICENCES, licence_key.as_bytes());
        owner.ct_eq(&licence.owner).into()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

fn tag(key: &hmac::Key, purpose: &[u8], message: &[u8]) -> [u8; TAG_BYTES] {
    let mut context = hmac::Context::with_key(key);
    context.update(purpose);
    context.update(message);
    let whole = context.sign();
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&whole.as_ref()[..TAG_BYTES]);
    tag
}

/// A name with its length; UUIDs, which backends like, as their sixteen bytes.
fn put_name(bytes: &mut Vec<u8>, name: &str) {
    debug_assert!(is_name(name), "names are bounded");
    match Uuid::parse_str(name) {
        Ok(uuid) if uuid.to_string() == name => {
            bytes.push(0);
            bytes.extend(uuid.as_bytes());
        }
        _ => {
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend(name.as_bytes());
        }
    }
}

fn take_name(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = if *length == 0 {
        let (uuid, rest) = rest.split_first_chunk::<16>()?;
        (Uuid::from_bytes(*uuid).to_string(), rest)
    } else {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        (std::str::from_utf8(name).ok()?.to_owned(), rest)
    };
    is_name(&name).then_some((name, rest))
}

fn read(claims: &[u8], secret: usize) -> Option<Verified> {
    let (format, rest) = claims.split_first()?;
    let (identity, rest) = take_name(rest)?;
    let (licence, rest) = match *format {
        PLAIN => (None, rest),
        LICENSED => {
            let (reference, rest) = take_name(rest)?;
            let (owner, rest) = rest.split_first_chunk()?;
            let owner = *owner;
            (Some(LicenceClaim { reference, owner }), rest)
        }
        _ => return None,
    };
    Some(Verified {
        identity: Identity::new(&identity)?,
        licence,
        id: KeyId(rest.try_into().ok()?),
        secret,
    })
}

/// One case, so that people can read keys to each other and a double click marks the whole.
fn encode(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// The other way round; strict, so that no second spelling of a key works.
fn decode(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    BASE32_NOPAD
        .decode(text.to_ascii_uppercase().as_bytes())
        .ok()
}

fn checksum(text: &str) -> String {
    encode(&crc32fast::hash(text.as_bytes()).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Secrets {
        let all: Vec<_> = texts
            .iter()
            .map(|text| Secret::new(text).unwrap())
            .collect();
        Secrets::new(&all)
    }

    const FIRST: &str = "the first secret, 32 bytes long!!";
    const SECOND: &str = "the second secret, 32 bytes long!";

    #[test]
    fn a_key_says_who_it_is_of_to_whoever_has_the_secret() {
        let secrets = secrets(&[FIRST]);
        for name in ["acme", "4cb5b5e6-3b1d-4a8e-9d35-0f2a4c8b7e11", "A_-9", "0"] {
            let identity = Identity::new(name).unwrap();
            let plain = secrets.issue(&identity, None);
            let read = secrets.verify(plain.reveal()).unwrap();
            assert_eq!((&read.identity, &read.licence), (&identity, &None));
            let licensed = secrets.issue(&identity, Some((name, "LICENCE-1")));
            let read = secrets.verify(licensed.reveal()).unwrap();
            assert_eq!(read.licence.as_ref().unwrap().reference, name);
            assert!(secrets.is_of_licence(&read, "LICENCE-1"));
            assert!(!secrets.is_of_licence(&read, "LICENCE-2"));
        }
    }

    #[test]
    fn older_secrets_verify_and_the_first_one_signs() {
        let identity = Identity::new("acme").unwrap();
        let old = secrets(&[FIRST]).issue(&identity, None);
        let rotated = secrets(&[SECOND, FIRST]);
        assert_eq!(rotated.verify(old.reveal()).unwrap().secret, 1);
        let new = rotated.issue(&identity, None);
        assert_eq!(rotated.verify(new.reveal()).unwrap().secret, 0);
        assert_eq!(secrets(&[FIRST]).verify(new.reveal()), None);
        assert_eq!(secrets(&[SECOND]).verify(old.reveal()), None);
        assert_eq!(rotated.names()[1], secrets(&[FIRST]).names()[0]);
    }

    #[test]
    fn no_other_spelling_of_a_key_is_taken() {
        let secrets = secrets(&[FIRST]);
        let key = secrets.issue(&Identity::new("acme").unwrap(), Some(("lic", "L")));
        let key = key.reveal();
        assert!(secrets.verify(key).is_some());
        for at in 0..key.len() {
            for other in "a7z2_A \0"
                .chars()
                .filter(|other| key[at..=at] != other.to_string())
            {
                let mut changed = key.to_owned();
                changed.replace_range(at..=at, &other.to_string());
                assert_eq!(secrets.verify(&changed), None, "{at}");
                // Also where the checksum is made to fit.
                let body = &changed[..key.len() - CHECKSUM_CHARS];
                if body != &key[..body.len()] {
                    let fitting = body.to_owned() + &checksum(body);
                    assert_eq!(secrets.verify(&fitting), None, "{at}");
                }
            }
            assert_eq!(secrets.verify(&key[..at]), None);
        }
        for other in [
            key.to_uppercase(),
            format!("{key}="),
            format!(" {key}"),
            format!("{key}a"),
        ] {
            assert_eq!(secrets.verify(&other), None);
        }
    }

    #[test]
    fn neither_keys_nor_secrets_are_shown() {
        let secrets = secrets(&[FIRST]);
        let key = secrets.issue(&Identity::new("acme").unwrap(), None);
        let shown = format!("{key:?} {secrets:?} {:?}", Secret::new(FIRST));
        assert!(
            !shown.contains(key.reveal()) && !shown.contains("first"),
            "{shown}"
        );
    }
}
