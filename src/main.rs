//! The `doorward` command.

use std::process::ExitCode;

use doorward::wiping::Wiping;
use tikv_jemallocator::Jemalloc;

/// Huge pages for the index: one wait for memory less in each lookup (`docs/performance.md` has the figures). What is given back is wiped.
#[global_allocator]
static ALLOCATOR: Wiping<Jemalloc> = Wiping(Jemalloc);

/// jemalloc reads its settings from this symbol. A thread keeps little memory ready for itself, as there may be thousands, one for each connection, and what they gave
/// back goes to the kernel after ten seconds, whether or not anybody asks for memory meanwhile.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 101] =
    b"thp:always,background_thread:true,max_background_threads:1,tcache_nslots_small_max:8,tcache_max:1024\0";

fn main() -> ExitCode {
    doorward::cli::main()
}
