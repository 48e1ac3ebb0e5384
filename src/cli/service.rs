use std::io::Write;

use clap::CommandFactory;

use super::args::service::{CheckConfig, Completions, Man, Serve};
use super::args::{Cli, Everywhere};
use super::exit::{Exit, Failure};
use super::screen::{Screen, print};
use crate::config::Config;
use crate::daemon::{self, ServeOptions};

/// `serve`
pub(crate) fn serve(everywhere: &Everywhere, arguments: Serve) -> Result<std::process::ExitCode, Failure> {
    if everywhere.admin_socket.is_some() || everywhere.verify_socket.is_some() {
        return Err(Failure::usage("serve: its sockets are in the run directory; --admin-socket and --verify-socket are for the other verbs"));
    }
    if arguments.config.is_some() && everywhere.run_dir.is_some() {
        return Err(Failure::usage("serve: with --config, the run directory is named in the file ('run_dir'), not by --run-dir"));
    }
    if arguments.config.is_none() && everywhere.run_dir.is_none() {
        return Err(Failure::usage("serve: without --config FILE, it needs both --data-dir DIR and --run-dir DIR"));
    }
    Ok(daemon::serve(ServeOptions {
        config: arguments.config,
        data_dir: arguments.data_dir,
        run_dir: everywhere.run_dir.clone(),
        country_db: arguments.country_db,
    }))
}

/// `check-config`
pub(crate) fn check_config(screen: &Screen, arguments: &CheckConfig) -> Result<Exit, Failure> {
    let file = arguments.file.as_ref().or(arguments.config.as_ref());
    let file = file.ok_or_else(|| Failure::usage("check-config: which file?"))?;
    Config::load(file).map_err(|error| Failure::new(Exit::Config, "config", "the configuration is wrong", error.to_string()))?;
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
