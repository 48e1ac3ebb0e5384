//! doorward
#[cfg(feature = "store")]
pub mod admin;
pub mod catalog;
pub mod digest;
pub mod index;
pub mod key;
