//! SIGHUP: the country database and the reloadable part of the configuration. What is invalid changes nothing, and is said.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tracing::{error, info, warn};

use super::{Running, ServeOptions, identity, judgement};
use crate::admin::{Access, Judgement};
use crate::config::Config;
use crate::verify::Door;

/// What reloads need.
pub(super) struct Reload {
    options: ServeOptions,
    config: Config,
    door: Arc<Door>,
    access: Arc<RwLock<Access>>,
    name_users: Box<dyn Fn(Vec<u32>)>,
    judgement: Arc<RwLock<Judgement>>,
    troubles: Troubles,
}

/// What is wrong with the configuration, for `status`.
#[derive(Clone, Default)]
pub(super) struct Troubles(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Since the start, until the next.
    lasting: Vec<String>,
    /// Since the last reload.
    of_reload: Vec<String>,
}

impl Troubles {
    /// A way to read them.
    pub(super) fn reader(&self) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
        let Troubles(troubles) = self.clone();
        Arc::new(move || {
            let known = troubles.lock();
            known.lasting.iter().chain(&known.of_reload).cloned().collect()
        })
    }

    /// Says and keeps what is wrong until the next start.
    pub(super) fn add_lasting(&self, trouble: String) {
        error!("{trouble}");
        self.0.lock().lasting.push(trouble);
    }
}

impl Reload {
    pub(super) fn new(options: ServeOptions, config: Config, running: &Running) -> Reload {
        let (access, judgement, troubles) = (running.access.clone(), running.judgement.clone(), running.troubles.clone());
        let name_users = Box::new(running.verify_socket.users());
        Reload { options, config, door: Arc::clone(&running.door), access, name_users, judgement, troubles }
    }

    /// Reads everything anew. Each part that is valid takes effect; one that is not keeps its old state.
    pub(super) fn run(&mut self) {
        let mut troubles = Vec::new();
        if let Err(reason) = self.configuration() {
            troubles.push(format!("the configuration was not reloaded, the old one stays: {reason}"));
        }
        if let Some(path) = &self.config.country_db
            && let Err(reason) = self.door.geo.load(path)
        {
            troubles.push(format!("the country database was not reloaded, the old one stays: {reason}"));
        }
        troubles.iter().for_each(|trouble| error!("{trouble}"));
        if troubles.is_empty() {
            info!("reloaded");
        }
        self.troubles.0.lock().of_reload = troubles;
    }

    fn configuration(&mut self) -> Result<(), String> {
        let ServeOptions::Config(file) = &self.options else { return Ok(()) };
        let new = Config::load(file).map_err(|error| error.to_string())?;
        let (config, restart) = self.config.reload(new);
        let access = identity::access(&config.admin).map_err(|error| error.to_string())?;
        let users = identity::users(&config.verify).map_err(|error| error.to_string())?;
        if !restart.is_empty() {
            warn!(keys = restart.join(" "), "these keys of the configuration take effect at the next start");
        }
        if config.country_db.is_none() {
            self.door.geo.unload();
        }
        *self.access.write() = access;
        (self.name_users)(users);
        *self.judgement.write() = judgement(&config);
        self.door.index.set_strict(config.strict);
        self.config = config;
        Ok(())
    }
}
