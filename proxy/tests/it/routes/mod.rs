//! One file for each verb.

mod acquire;
mod extend;
mod health;
mod release;
