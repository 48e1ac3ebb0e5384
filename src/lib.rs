//! doorward verifies API keys for the web servers on its host. A web server hands over the key that a caller presented, and learns
//! whether this key may call this function from this address now, and whose key it is.
//!
//! ```text
//! web servers ─► verify_socket ─► verify ─► digest ─► index ─► geo, policy ─► usage ─► the answer
//!                                                       ▲                       │
//!                                            2. visible │                       │ in batches
//! admins ─────► admin ─────────► catalog ───────────────┘                     flush
//!                                   │ 1. durable                                │
//!                                   └────────────────────► store ◄──────────────┘
//! ```
//!
//! The rooms, from the top down. Each knows only rooms below its own line; `tests/house.rs` holds every edge, and `docs/architecture.md` draws them.
//!
//! - `daemon` starts and stops everything, in order; `cli` is the command; `bench` measures both from outside.
//! - [`verify_socket`] reads frames and writes answers; `admin` speaks HTTP and JSON; `flush` carries counts into the store.
//! - [`verify`] is the hot path, on one screen: it waits for no lock and no disk, and allocates nothing. `catalog` is the one writer: durable, then visible. [`client`] asks over the verify socket.
//! - [`protocol`], [`digest`], [`index`], [`policy`], [`usage`], `store` and [`geo`] do not know each other. `store` alone names RocksDB.
//! - [`record`] has what the store holds as bytes; `backup` copies a store and makes one of a copy.
//! - `wire` has the documents of the admin API.
//! - [`key`] has the nouns and their limits. [`peer`] asks the kernel who connected, [`turnstile`] takes them off its queue. `config`, `systemd`, [`clock`], [`regular_file`] and [`wiping`] are leaves.
//!
//! Without the default feature `store` all that needs RocksDB is left out (it is not linked above): web servers that use the [`client`] do that. Fuzzers add the feature `wire`: the documents of the admin API.

#[cfg(feature = "store")]
pub mod admin;
pub mod advise;
#[cfg(feature = "store")]
pub mod backup;
#[cfg(feature = "store")]
pub mod bench;
#[cfg(feature = "store")]
pub mod catalog;
#[cfg(feature = "store")]
pub mod cli;
pub mod client;
pub mod clock;
#[cfg(feature = "store")]
pub mod config;
#[cfg(feature = "store")]
pub mod daemon;
pub mod digest;
#[cfg(feature = "store")]
pub mod flush;
pub mod geo;
pub mod index;
pub mod key;
pub mod peer;
pub mod policy;
pub mod protocol;
pub mod record;
pub mod regular_file;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "store")]
pub mod systemd;
pub mod turnstile;
pub mod unusual;
pub mod usage;
pub mod verify;
pub mod verify_socket;
pub mod wiping;
#[cfg(feature = "wire")]
pub mod wire;

/// Runs the examples of the README as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
