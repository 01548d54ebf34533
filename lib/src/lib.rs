//! everlock.
