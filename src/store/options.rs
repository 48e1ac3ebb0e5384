use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options};

use super::{Family, usage};

/// How much memory the store may use. The defaults suit a daemon that shares its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes of changes kept in memory over all column families before they are written to table files.
    pub write_buffer_bytes: usize,
    /// Bytes of table blocks, indexes and filters kept in memory. Verifies never read the store, so this serves admins only.
    pub block_cache_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { write_buffer_bytes: 64 << 20, block_cache_bytes: 32 << 20 }
    }
}

/// Table files that RocksDB keeps open; each costs a file descriptor, and their indexes live in the block cache.
const OPEN_FILES: i32 = 256;
/// Bytes of write-ahead log, after which the oldest memtable is written out so that the log can go: bounds the time to open.
const WAL_BYTES: u64 = 256 << 20;
/// Bytes of one of RocksDB's own text logs, of which it keeps four.
const TEXT_LOG_BYTES: usize = 1 << 20;
/// Bits of a Bloom filter for each key: about 1 % false positives.
const FILTER_BITS: f64 = 10.0;

/// Part of a memtable that its Bloom filter takes.
const MEMTABLE_FILTER: f64 = 0.02;

pub(super) fn rocksdb_options(options: &StoreOptions) -> (Options, Vec<ColumnFamilyDescriptor>) {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let mut database = Options::default();
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_db_write_buffer_size(options.write_buffer_bytes);
    database.set_max_total_wal_size(WAL_BYTES);
    database.set_max_open_files(OPEN_FILES);
    database.set_max_background_jobs(2);
    database.set_bytes_per_sync(1 << 20);
    database.set_keep_log_file_num(4);
    database.set_max_log_file_size(TEXT_LOG_BYTES);
    database.set_stats_dump_period_sec(0);
    // Usage is written without a sync, so a power failure may leave half a record at the log's end: AbsoluteConsistency would refuse
    // to open after any such failure, and TolerateCorruptedTailRecords would take a hole in the log for its end. PointInTime
    // stops at the first record that is not whole; that no acknowledged change was behind it is what the witness file is for.
    database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    database.set_track_and_verify_wals_in_manifest(true);
    let families = Family::ALL.map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(family, options, &cache)));
    (database, families.into())
}

fn family_options(family: Family, options: &StoreOptions, cache: &Cache) -> Options {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables.set_block_size(16 << 10);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut family_options = Options::default();
    if matches!(family, Family::Keys | Family::Names) {
        tables.set_bloom_filter(FILTER_BITS, false);
        // Of a new key both ask for rows that are not there.
        family_options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER);
        family_options.set_memtable_whole_key_filtering(true);
    }
    family_options.set_block_based_table_factory(&tables);
    family_options.set_compression_type(DBCompressionType::Lz4);
    family_options.set_level_compaction_dynamic_level_bytes(true);
    family_options.set_write_buffer_size((options.write_buffer_bytes / 2).max(1 << 20));
    if family == Family::Usage {
        // What a flush of a memtable writes is merged soon, and compressed then.
        family_options.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Lz4]);
        family_options.set_merge_operator_associative("doorward usage v1", usage::merge);
    }
    family_options
}
