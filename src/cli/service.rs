use std::io::Write;

use clap::CommandFactory;

use super::args::service::{CheckConfig, Completions, Man, Serve};
use super::args::{Cli, Everywhere};
use super::exit::{Exit, Failure};
use super::screen::{Screen, print};
use crate::catalog::CatalogError;
use crate::config::ConfigError;
use crate::daemon::{self, ServeError, ServeOptions};

/// `serve`
pub(crate) fn serve(everywhere: &Everywhere, arguments: Serve) -> Result<Exit, Failure> {
    let options = serve_options(everywhere, arguments)?;
    daemon::serve(options).map_err(|error| Failure::new(exit_of(&error), "serve", "the daemon did not start", error.to_string()))?;
    Ok(Exit::Ok)
}

fn serve_options(everywhere: &Everywhere, arguments: Serve) -> Result<ServeOptions, Failure> {
    if everywhere.admin_socket.is_some() || everywhere.verify_socket.is_some() {
        return Err(Failure::usage(
            "serve: its sockets are in the run directory; --admin-socket and --verify-socket are for the other verbs",
        ));
    }
    match (arguments.config, arguments.data_dir, everywhere.run_dir.clone()) {
        (Some(config), None, None) => Ok(ServeOptions::Config(config)),
        (None, Some(data_dir), Some(run_dir)) => Ok(ServeOptions::Directories { data_dir, run_dir, country_db: arguments.country_db }),
        (Some(_), ..) => Err(Failure::usage("serve: with --config, the directories are named in the file, not by --data-dir or --run-dir")),
        (None, ..) => Err(Failure::usage("serve: without --config FILE, it needs both --data-dir DIR and --run-dir DIR")),
    }
}

/// Which exit code systemd and scripts see when the daemon did not start.
pub(super) fn exit_of(error: &ServeError) -> Exit {
    match error {
        ServeError::WrongPepper { .. } | ServeError::Catalog(CatalogError::PepperNeeded { .. }) => Exit::Config,
        ServeError::Config(_) | ServeError::Identity { .. } | ServeError::Listen(_) | ServeError::Pepper(_) | ServeError::Geo(_) => {
            Exit::Config
        }
        ServeError::Directory(_) | ServeError::Counters(_) => Exit::CantCreate,
        ServeError::Store(_) | ServeError::Catalog(_) | ServeError::StoreGone(_) | ServeError::RestorePending(_) => Exit::Io,
        ServeError::NoStore(_) => Exit::NoInput,
        ServeError::Stopped => Exit::TempFail,
        ServeError::System(..) => Exit::System,
    }
}

/// `check-config`
pub(crate) fn check_config(screen: &Screen, arguments: &CheckConfig) -> Result<Exit, Failure> {
    let file = arguments.file.as_ref().or(arguments.config.as_ref());
    let file = file.ok_or_else(|| Failure::usage("check-config: which file?"))?;
    daemon::check_config(file).map_err(|error| match &error {
        ServeError::Config(ConfigError::Read { path, source }) => Failure::file("read", path, source),
        _ => Failure::new(Exit::Config, "config", "the configuration is wrong", error.to_string()),
    })?;
    let document = serde_json::json!({ "file": file, "ok": true });
    screen.show(&document, || format!("{}: ok\n", file.display()))?;
    Ok(Exit::Ok)
}

/// `completions`
pub(crate) fn completions(arguments: &Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "doorward", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// `man`
pub(crate) fn man(arguments: &Man) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory).map_err(|error| Failure::file("make", directory, &error))?;
    let mut command = Cli::command();
    command.build();
    write_page(directory, &command, "doorward")?;
    Ok(Exit::Ok)
}

/// A page for the command and one for each visible verb below it: `doorward-functions-add.1`.
fn write_page(directory: &std::path::Path, command: &clap::Command, name: &str) -> Result<(), Failure> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).render(&mut page);
    let path = directory.join(format!("{name}.1"));
    let written = rendered.and_then(|()| std::fs::File::create(&path)).and_then(|mut file| file.write_all(&page));
    written.map_err(|error| Failure::file("write", &path, &error))?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        write_page(directory, verb, &format!("{name}-{}", verb.get_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serve_takes_a_file_or_two_directories() {
        let serve = |config: Option<&str>, data: Option<&str>, run: Option<&str>| {
            let everywhere = Everywhere { run_dir: run.map(Into::into), ..Everywhere::default() };
            serve_options(&everywhere, Serve { config: config.map(Into::into), data_dir: data.map(Into::into), country_db: None })
        };
        assert!(matches!(serve(Some("c"), None, None), Ok(ServeOptions::Config(_))));
        assert!(matches!(serve(None, Some("d"), Some("r")), Ok(ServeOptions::Directories { .. })));
        for (config, data, run) in [(Some("c"), None, Some("r")), (None, Some("d"), None), (None, None, Some("r"))] {
            assert_eq!(serve(config, data, run).err().map(|failure| failure.exit), Some(Exit::Usage));
        }
    }

    #[test]
    fn every_verb_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        man(&Man { directory: directory.path().to_owned() }).unwrap();
        for page in ["doorward.1", "doorward-create.1", "doorward-functions-add.1", "doorward-serve.1"] {
            let text = std::fs::read_to_string(directory.path().join(page)).unwrap();
            assert!(text.contains(".TH"), "{page}");
        }
        assert!(!directory.path().join("doorward-man.1").exists());
    }
}
