//! The `doorward` command.

use std::process::ExitCode;

use doorward::wiping::Wiping;
use tikv_jemallocator::Jemalloc;

/// Huge pages for the index: one wait for memory less in each lookup (`docs/performance.md` has the figures). What is given back is wiped.
#[global_allocator]
static ALLOCATOR: Wiping<Jemalloc> = Wiping(Jemalloc);

/// jemalloc reads its settings from this symbol.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 11] = b"thp:always\0";

fn main() -> ExitCode {
    doorward::cli::main()
}
