//! doorward
#[cfg(feature = "store")]
pub mod admin;
pub mod catalog;
pub mod client;
pub mod digest;
pub mod index;
pub mod key;
pub mod policy;
pub mod protocol;
