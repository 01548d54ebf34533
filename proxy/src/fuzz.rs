//! What must hold whatever is given: the bodies of the fuzz targets, which an
//! ordinary test replays. Each panics where it does not hold.

mod configuration;
mod requests;

pub use configuration::configuration;
pub use requests::requests;
