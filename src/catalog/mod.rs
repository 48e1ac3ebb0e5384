//! The single writer: commits a change to the store, then publishes it to the index, then answers.

pub mod change;
