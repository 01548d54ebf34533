//! Who may ask: API keys, their end, and what nobody may reach.

mod api_keys;
mod canaries;
mod deleted_keys;
mod isolation;
pub(crate) mod licences;
mod limits;
mod metering;
pub(crate) mod setup;

pub(crate) use setup::Scratch;
