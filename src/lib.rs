//! doorward
#[cfg(feature = "store")]
pub mod admin;
#[cfg(feature = "store")]
pub mod catalog;
pub mod digest;
pub mod index;
pub mod key;
#[cfg(feature = "store")]
pub mod store;
