//! doorward
#[cfg(feature = "store")]
pub mod admin;
#[cfg(feature = "store")]
pub mod catalog;
#[cfg(feature = "store")]
pub mod cli;
pub mod client;
pub mod clock;
pub mod digest;
pub mod geo;
pub mod index;
pub mod key;
pub mod policy;
pub mod protocol;
