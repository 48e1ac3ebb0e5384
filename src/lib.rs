//! doorward
#[cfg(feature = "store")]
pub mod admin;
pub mod catalog;
pub mod clock;
#[cfg(feature = "store")]
pub mod config;
pub mod geo;
pub mod index;
pub mod key;
#[cfg(feature = "store")]
pub mod systemd;
pub mod usage;
