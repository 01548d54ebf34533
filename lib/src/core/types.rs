//! What is locked, by whom, and on which node: names that are parsed once.
//!
//! Invariant: a value of these types is within its bounds, so nothing inside
//! checks it again. `Debug` shows sizes in place of contents: a resource may
//! name a customer, and whoever knows the owner id can release the lock.

use std::fmt;
use std::sync::Arc;

/// The longest resource name, in bytes: room for a prefix, an identity and a 512-byte key.
pub const MAX_RESOURCE_BYTES: usize = 1024;
/// The longest owner id, in bytes.
pub const MAX_OWNER_BYTES: usize = 128;
/// Marks the keys that belong to everlock itself; no resource has it in its first segment.
const COMPANION_MARK: char = '~';

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The name has no bytes at all.
    #[error("{field} is empty: it takes 1 to {max} bytes")]
    Empty {
        /// Which name.
        field: &'static str,
        /// The most bytes it may have.
        max: usize,
    },
    /// The name is too long.
    #[error("{field} has {len} bytes: it takes 1 to {max}")]
    TooLong {
        /// Which name.
        field: &'static str,
        /// How many bytes it has.
        len: usize,
        /// The most bytes it may have.
        max: usize,
    },
    /// A resource with `~` in its first segment would collide with everlock's own keys.
    #[error("resource has '~' before its first ':': such keys belong to everlock itself")]
    Reserved,
}

fn bounded(field: &'static str, text: &str, max: usize) -> Result<(), InvalidName> {
    match text.len() {
        0 => Err(InvalidName::Empty { field, max }),
        len if len > max => Err(InvalidName::TooLong { field, len, max }),
        _ => Ok(()),
    }
}

/// What is locked: the key on the nodes, any UTF-8 text of 1 to [`MAX_RESOURCE_BYTES`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(Arc<str>);

impl Resource {
    /// Parses a resource name.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, InvalidName> {
        let name = name.into();
        bounded("resource", &name, MAX_RESOURCE_BYTES)?;
        let first = name.split(':').next().unwrap_or_default();
        if first.contains(COMPANION_MARK) {
            return Err(InvalidName::Reserved);
        }
        Ok(Self(name))
    }

    /// The name, which is the very key on the nodes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key that keeps this resource's fence, for display: it differs in the
    /// first segment, which no resource name can imitate.
    #[must_use]
    pub fn fence_key(&self) -> CompanionKey<'_> {
        self.companion("~fence")
    }

    /// The key that keeps the tickets of those who wait in line, in their order.
    #[must_use]
    pub fn queue_key(&self) -> CompanionKey<'_> {
        self.companion("~queue")
    }

    /// The key that keeps until when each of them stands in line.
    #[must_use]
    pub fn beats_key(&self) -> CompanionKey<'_> {
        self.companion("~beats")
    }

    /// The key that keeps the highest ticket that ever stood in this line.
    #[must_use]
    pub fn ticket_key(&self) -> CompanionKey<'_> {
        self.companion("~ticket")
    }

    fn companion(&self, suffix: &'static str) -> CompanionKey<'_> {
        let name = &self.0;
        CompanionKey { name, suffix }
    }
}

/// A key that keeps something about a resource: its name, with a suffix to the first segment.
#[derive(Clone, Copy, Debug)]
pub struct CompanionKey<'a> {
    name: &'a str,
    suffix: &'static str,
}

impl fmt::Display for CompanionKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.name.find(':').unwrap_or(self.name.len());
        f.write_str(&self.name[..first])?;
        f.write_str(self.suffix)?;
        f.write_str(&self.name[first..])
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({} bytes)", self.0.len())
    }
}

/// Who holds a lock: the value of the lock's key, 1 to [`MAX_OWNER_BYTES`] bytes of UTF-8 text.
///
/// Whoever knows it can extend and release the lock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(Arc<str>);

impl OwnerId {
    /// Parses an owner id.
    pub fn new(id: impl Into<Arc<str>>) -> Result<Self, InvalidName> {
        let id = id.into();
        bounded("owner", &id, MAX_OWNER_BYTES)?;
        Ok(Self(id))
    }

    /// The id, which is the very value of the lock's key on the nodes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({} bytes)", self.0.len())
    }
}

macro_rules! try_from_text {
    ($name:ident, $($text:ty),+) => {$(
        impl TryFrom<$text> for $name {
            type Error = InvalidName;

            fn try_from(text: $text) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }
    )+
        impl TryFrom<&$name> for $name {
            type Error = InvalidName;

            fn try_from(same: &$name) -> Result<Self, InvalidName> {
                Ok(same.clone())
            }
        }
    };
}
try_from_text!(Resource, &str, String);
try_from_text!(OwnerId, &str, String);

/// One attempt of one acquire request. The request is named by a random number,
/// so that no two share it; its attempts are counted, so that what takes back an
/// earlier one can tell it from a later one, whatever tokens they proposed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    call: u64,
    attempt: u32,
}

impl CallId {
    /// The call with this number, at its first attempt.
    #[must_use]
    pub const fn new(call: u64) -> Self {
        Self { call, attempt: 1 }
    }

    /// The same call at this attempt.
    #[must_use]
    pub const fn at_attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    /// The call, whichever attempt it is at.
    pub(crate) const fn number(self) -> u64 {
        self.call
    }

    /// Which attempt of the call this is.
    #[must_use]
    pub const fn attempt(self) -> u32 {
        self.attempt
    }

    /// Whether both are attempts of one call.
    #[must_use]
    pub const fn is_call_of(self, other: Self) -> bool {
        self.call == other.call
    }
}

/// The call, without its attempt.
impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.call)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({self}, attempt {})", self.attempt)
    }
}

/// How a node is named in reports and logs: its address, without credentials.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A node of this name. The caller sees to it that no secret is in it.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_in_bytes() {
        assert!(Resource::new("").is_err());
        assert!(Resource::new("a".repeat(MAX_RESOURCE_BYTES)).is_ok());
        let error = Resource::new("ä".repeat(MAX_RESOURCE_BYTES / 2 + 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "resource has 1026 bytes: it takes 1 to 1024"
        );
        assert!(OwnerId::new("x".repeat(MAX_OWNER_BYTES + 1)).is_err());
    }

    #[test]
    fn a_fence_key_can_never_be_a_resource_and_is_unique() {
        let names = [
            "a",
            "a:",
            "a:b",
            "a:b:c",
            "a:b~fence",
            "a::",
            ":",
            "::",
            "a b",
            "a:~",
        ];
        let mut fences: Vec<_> = names
            .iter()
            .map(|name| Resource::new(*name).unwrap().fence_key().to_string())
            .collect();
        for fence in &fences {
            assert_eq!(
                Resource::new(fence.as_str()),
                Err(InvalidName::Reserved),
                "{fence}"
            );
        }
        fences.sort();
        fences.dedup();
        assert_eq!(fences.len(), names.len());
    }

    #[test]
    fn debug_reveals_neither_the_resource_nor_its_owner() {
        let shown = format!(
            "{:?} {:?}",
            Resource::new("s3cret").unwrap(),
            OwnerId::new("s3cret")
        );
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
