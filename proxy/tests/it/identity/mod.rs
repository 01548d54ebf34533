//! Who may ask: API keys, their end, and what nobody may reach.

mod api_keys;
mod canaries;
mod deleted_keys;
mod isolation;
mod licences;
mod limits;
mod metering;
mod setup;

pub(crate) use setup::Scratch;
