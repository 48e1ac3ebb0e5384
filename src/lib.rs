//! doorward
#[cfg(feature = "store")]
pub mod admin;
pub mod catalog;
pub mod clock;
pub mod geo;
pub mod index;
pub mod key;
pub mod usage;
