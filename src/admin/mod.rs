//! The admin socket: HTTP/1.1 and JSON for those who change, list and audit keys.

mod access;
mod body;
mod problem;
pub mod wire;

pub use access::{Access, Authority, Peer};
