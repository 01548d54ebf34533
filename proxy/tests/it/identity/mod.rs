//! Who may ask: API keys, their end, and what nobody may reach.

mod api_keys;
mod deleted_keys;
mod licences;
mod limits;
mod metering;
mod setup;
