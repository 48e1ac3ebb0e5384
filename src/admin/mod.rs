//! The admin socket: HTTP/1.1 and JSON for those who change, list and audit keys.

pub mod wire;
