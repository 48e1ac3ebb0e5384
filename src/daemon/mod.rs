//! The composition root: what starts in which order, what a reload changes, and what stops in which order.

pub mod check;
mod directory;
mod identity;
mod log;
mod pepper;
mod process;
mod reload;
pub mod restore;
mod sockets;
mod status;
mod time;
mod watch;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::RwLock;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::admin::{self, Access, AdminState, Judgement};
use crate::catalog::{Catalog, CatalogError, CatalogOptions};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::digest::Recogniser;
use crate::flush::{Flush, FlushOptions};
use crate::geo::{Geo, GeoError};
use crate::index::Index;
use crate::key::Span;
use crate::store::{Keep, Store, StoreError, StoreOptions};
use crate::systemd::{self, ListenError, Listeners};
use crate::usage::{self, CountersError, Owner, Usage, Written};
use crate::verify::Door;
use crate::verify_socket::{Limits, VerifySocket};

use directory::{DirectoryError, Locked};
use pepper::PepperError;
pub use process::keep_secrets;
use reload::{Reload, Troubles};
use sockets::Socket;
use watch::Watch;

/// The verify socket's name in the run directory.
pub const VERIFY_SOCKET: &str = "verify.sock";
/// The admin socket's name in the run directory.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// The name of the counters' directory in the run directory.
const COUNTERS: &str = "counters";

/// How long connections may take to collect their answers when the daemon stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Where `serve` takes its configuration from.
#[derive(Debug, Clone)]
pub enum ServeOptions {
    /// A file.
    Config(PathBuf),
    /// Directories, and the defaults for all else.
    Directories {
        /// Keys, history and usage.
        data_dir: PathBuf,
        /// Sockets.
        run_dir: PathBuf,
        /// The country database.
        country_db: Option<PathBuf>,
    },
}

/// Why the daemon did not start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A user or group of the configuration.
    #[error("{key}: there is no {what} '{name}' on this system")]
    Identity {
        /// The configuration's key.
        key: &'static str,
        /// User or group.
        what: &'static str,
        /// As configured.
        name: String,
    },
    /// A directory or a socket.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The sockets that systemd lends.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The pepper.
    #[error(transparent)]
    Pepper(#[from] PepperError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The counters' files.
    #[error(transparent)]
    Counters(#[from] CountersError),
    /// Loading the keys.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The pepper is another than the store's.
    #[error("{file}: {error}", file = file.display())]
    WrongPepper {
        /// Where it was read from.
        file: PathBuf,
        /// Which it is, and which the store needs.
        error: CatalogError,
    },
    /// The country database.
    #[error(transparent)]
    Geo(#[from] GeoError),
    /// There was a store, and it is gone.
    #[error(
        "there is no store in {0}, though there was one, and no other is begun in its place: put 'db' back, or restore a backup; if it is to begin \
         empty, remove the file 'lock' there"
    )]
    StoreGone(PathBuf),
    /// What a restoration left that was broken off.
    #[error(
        "{0} holds no store, but 'db.part', of a restoration that was broken off: call 'doorward restore' again; if it is to begin \
         empty, remove 'db.part' and the file 'lock' there"
    )]
    RestorePending(PathBuf),
    /// There is no store to look at.
    #[error("there is no store in {0}: it holds no directory 'db'")]
    NoStore(PathBuf),
    /// A check was told to stop.
    #[error("stopped before the end")]
    Stopped,
    /// The kernel refuses a thread, a signal handler or a socket.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start; then nothing was left behind but directories.
pub fn serve(options: ServeOptions) -> Result<(), ServeError> {
    // First of all, because their numbers are those of the files that were opened first.
    let lent = Listeners::inherited(&[sockets::VERIFY, sockets::ADMIN]);
    let config = match &options {
        ServeOptions::Config(file) => Config::load(file)?,
        ServeOptions::Directories { data_dir, run_dir, country_db } => Config::for_directories(data_dir, run_dir, country_db.as_deref())?,
    };
    log::start(&config.log);
    process::harden();
    // Before any other thread is there, so that every one of them leaves the signals to the one that waits for them.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|error| ServeError::System("signal handlers", error))?;
    let running = Running::start(&config, lent?)?;
    let mut reload = Reload::new(options, config, &running);
    let summary = running.summary();
    info!(keys = running.catalog.counts().keys, "ready");
    systemd::ready(&summary());
    let (place, goes_round) = (running.verify_place.path().to_owned(), running.verify_socket.goes_round());
    let watch = Watch::start(place, Arc::clone(&running.door), goes_round, running.summary())
        .map_err(|error| ServeError::System("the watchdog's thread", error))?;
    for signal in signals.forever() {
        if signal == SIGHUP {
            systemd::reloading();
            reload.run();
            systemd::ready(&summary());
        } else {
            info!(signal, "stopping");
            systemd::stopping();
            break;
        }
    }
    watch.stop();
    running.stop();
    info!("stopped");
    Ok(())
}

/// Checks a configuration file as `serve` would, down to the users, groups and country database that it names, and changes nothing.
///
/// # Errors
/// What `serve` would refuse to start with, as far as can be told without opening the store.
pub fn check_config(file: &Path) -> Result<(), ServeError> {
    let config = Config::load(file)?;
    identity::access(&config.admin)?;
    identity::users(&config.verify)?;
    identity::group_of("verify.group", config.verify.group.as_deref())?;
    identity::group_of("admin.group", config.admin.group.as_deref())?;
    match &config.country_db {
        Some(path) => Ok(Geo::without_database().load(path)?),
        None => Ok(()),
    }
}

/// Everything that runs, in the order in which it was started.
struct Running {
    data: Locked,
    run: Locked,
    door: Arc<Door>,
    catalog: Arc<Catalog>,
    clock: Arc<Clock>,
    flush: Arc<Flush>,
    verify_socket: VerifySocket,
    verify_place: Socket,
    admin: AdminThread,
    admin_place: Socket,
    access: Arc<RwLock<Access>>,
    judgement: Arc<RwLock<Judgement>>,
    troubles: Troubles,
}

/// The admin socket's thread, with its runtime.
struct AdminThread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(config: &Config, mut lent: Listeners) -> Result<Running, ServeError> {
        let max_connections = process::allow_descriptors(config.verify.max_connections);
        let data = Locked::open(&config.data_dir, 0o700)?;
        directory::make(&config.run_dir, 0o755)?;
        let run = Locked::open_private(&config.run_dir.join(COUNTERS))?;
        let access = Arc::new(RwLock::new(identity::access(&config.admin)?));
        let users = identity::users(&config.verify)?;
        let mut verify_place = Socket::verify(&mut lent, config)?;
        let mut admin_place = Socket::admin(&mut lent, config)?;
        let store_path = config.data_dir.join("db");
        check_store_is_there(&data, &config.data_dir)?;
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let peppers = pepper::load(&config.pepper_file, config.previous_pepper_file.as_deref(), &store_path, credentials.as_deref())?;
        if let Err(error) = peppers.guarded() {
            warn!(%error, "the pepper could not be locked in memory, and may be swapped out: raise LimitMEMLOCK=, or keep swap encrypted or off");
        }

        let geo = Arc::new(Geo::without_database());
        if let Some(path) = &config.country_db {
            geo.load(path)?;
        }
        let begun = std::time::Instant::now();
        let store = Store::open(&store_path, StoreOptions::default())?;
        let store_ms = begun.elapsed().as_millis() as u64;
        if let Some(damage) = store.lost_usage() {
            warn!(%damage, "the store lost usage: its log or manifest is damaged, and what was counted behind the damage is gone");
        }
        if let Err(error) = store.drop_checkpoint() {
            tracing::warn!(%error, "what a backup left behind keeps its room on the disk");
        }
        let clock = Arc::new(Clock::start(time::kept_floor(&store)?));
        let index = Arc::new(Index::new());
        index.set_strict(config.strict);
        let options = CatalogOptions { token_prefix: config.token_prefix.clone(), undelete: config.undelete_for };
        let time = {
            let clock = Arc::clone(&clock);
            move || time::catalog_time(&clock)
        };
        // Before the store says that it needs this pepper: after a power failure it could be under one that no disk holds.
        if store.pepper_marks()?.is_none_or(|marks| marks.current != peppers.current.fingerprint()) {
            for file in [Some(&config.pepper_file), config.previous_pepper_file.as_ref()].into_iter().flatten() {
                pepper::sync(file, credentials.as_deref())?;
            }
        }
        let catalog = Catalog::open(store.clone(), Arc::clone(&index), peppers.clone(), time, options);
        let catalog = Arc::new(catalog.map_err(|error| about_pepper(error, &config.pepper_file))?);
        if let Err(error) = data.note_store() {
            warn!(%error, "it could not be noted that there is a store: should it be lost, the next start would begin an empty one");
        }
        info!(keys = catalog.counts().keys, store_ms, loaded_ms = begun.elapsed().as_millis() as u64, "loaded");
        let usage = Arc::new(counters(&store, &config.run_dir)?);
        let usage_kept = Keep { minutes: config.usage.keep_minutes, hours: config.usage.keep_hours, days: config.usage.keep_days };
        let flush_options = FlushOptions { interval: config.flush_interval, keep: usage_kept };
        let flush = Flush::start(Arc::clone(&usage), store, Arc::clone(&clock), flush_options)
            .map_err(|error| ServeError::System("the flush thread", error))?;
        let flush = Arc::new(flush);

        let door = Arc::new(Door { index, peppers, recogniser: Recogniser::new(), geo, usage });
        let limits = Limits {
            max_connections,
            spin: config.verify.spin,
            stuck: duration(config.verify.stuck_timeout),
            idle: config.verify.idle_timeout.map(duration),
        };
        let verify_socket = VerifySocket::start(verify_place.listen()?, Arc::clone(&door), Arc::clone(&clock), limits, users)
            .map_err(|error| ServeError::System("the verify socket's thread", error))?;
        let judgement = Arc::new(RwLock::new(judgement(config)));
        let troubles = Troubles::default();
        let metrics = config.metrics.listen.and_then(|address| listen(address, &troubles));
        let state = AdminState {
            catalog: Arc::clone(&catalog),
            door: Arc::clone(&door),
            clock: Arc::clone(&clock),
            access: Arc::clone(&access),
            judgement: Arc::clone(&judgement),
            verify_status: status::verify(&verify_socket, &door, &flush),
            latency: status::latency(&verify_socket),
            flush_status: status::flush(&flush),
            troubles: troubles.reader(),
            started_at: clock.now(),
        };
        let admin = AdminThread::start(admin_place.listen()?, metrics, state)
            .map_err(|error| ServeError::System("the admin socket's thread", error))?;
        Ok(Running { data, run, door, catalog, clock, flush, verify_socket, verify_place, admin, admin_place, access, judgement, troubles })
    }

    /// A way to the line for `systemctl status`.
    fn summary(&self) -> impl Fn() -> String + Send + 'static {
        status::line(&self.verify_socket, &self.door, &self.catalog, &self.clock, &self.flush, self.troubles.reader())
    }

    /// Takes no more requests, answers those that are there, then writes what was counted.
    fn stop(self) {
        let Running { data, run, catalog, flush, verify_socket, verify_place, admin, admin_place, .. } = self;
        verify_place.leave();
        admin_place.leave();
        verify_socket.stop(STOP_PATIENCE);
        admin.stop();
        catalog.stop();
        if let Err(error) = flush.stop() {
            error!(%error, "what was counted since the last flush could not be written; it waits in the run directory for the next start");
        }
        drop((run, data));
    }
}

/// Refuses to begin an empty store in place of one that is gone.
fn check_store_is_there(data: &Locked, data_dir: &Path) -> Result<(), ServeError> {
    let io_error = |error| DirectoryError::Io { path: data_dir.to_owned(), error };
    if !Store::is_missing(&data_dir.join("db")).map_err(io_error)? {
        return Ok(());
    }
    if data_dir.join("db.part").exists() {
        return Err(ServeError::RestorePending(data_dir.to_owned()));
    }
    if data.had_store().map_err(io_error)? {
        return Err(ServeError::StoreGone(data_dir.to_owned()));
    }
    Ok(())
}

/// Names the file of a pepper that is not the store's.
fn about_pepper(error: CatalogError, file: &Path) -> ServeError {
    match error {
        CatalogError::WrongPepper { .. } => ServeError::WrongPepper { file: file.to_owned(), error },
        _ => error.into(),
    }
}

/// By which limits usage is judged.
fn judgement(config: &Config) -> Judgement {
    Judgement { advise: config.advise, unusual: config.unusual }
}

/// The listener for `/metrics`. A port that cannot be had is no reason not to verify: it is said, and shown as a problem until the next start.
fn listen(address: SocketAddr, troubles: &Troubles) -> Option<TcpListener> {
    match TcpListener::bind(address) {
        Ok(listener) => {
            info!(address = %listener.local_addr().unwrap_or(address), "metrics");
            Some(listener)
        }
        Err(error) => {
            troubles
                .add_lasting(format!("metrics.listen: {address} cannot be listened on, so /metrics is on the admin socket alone: {error}"));
            None
        }
    }
}

fn duration(span: Span) -> Duration {
    Duration::from_millis(span.0.max(0) as u64)
}

/// The counters, with what a killed daemon left in them.
fn counters(store: &Store, run_dir: &Path) -> Result<Usage, ServeError> {
    let owner = Owner { store: store.store_id()?, boot: usage::boot_id() };
    let written = store.usage_written()?.map_or_else(Written::default, |mark| Written { generation: mark.generation, rows: mark.rows });
    Ok(Usage::open(&run_dir.join(COUNTERS), owner, written)?)
}

impl AdminThread {
    fn start(listener: UnixListener, metrics: Option<TcpListener>, state: AdminState) -> io::Result<AdminThread> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        // Before this thread gives way: the one that accepts must keep up with whoever floods the socket.
        let serving = admin::serve(listener, metrics, state, async { drop(stopped.await) })?;
        let serve = move || {
            process::give_way();
            runtime.block_on(serving);
        };
        Ok(AdminThread { stop, thread: thread::Builder::new().name("admin".into()).spawn(serve)? })
    }

    fn stop(self) {
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            error!("the admin socket's thread had panicked");
        }
    }
}
