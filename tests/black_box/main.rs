//! The real daemon through its real sockets and its real command, one behaviour a file. One binary, because linking RocksDB is slow.

mod bad_input;
mod bulk;
mod configuration;
mod copy;
mod create_and_verify;
mod daemon;
mod delete_undelete;
mod demo;
mod edit_lists;
mod every_verdict;
mod functions;
mod guides;
mod history;
mod import_export;
mod limits;
mod read_only;
mod restart;
mod revision;
mod revoke;
mod rotate;
mod secrets_nowhere;
mod sighup_reload;
mod sigkill_after_reply;
mod switch;
mod usage;
mod visibility;
