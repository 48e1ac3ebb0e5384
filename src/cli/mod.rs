//! The `doorward` command: flags in, a request to the daemon, a document or a screen out.

mod args;
mod ask;
mod exit;
mod functions;
mod history;
mod http;
mod keys;
mod rotate;
mod screen;
mod service;
mod shell;
mod status;
mod table;
mod tokens;
mod traffic;
mod transfer;
mod usage;
mod verify;
mod view;
mod wizard;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Actor, Cli, Everywhere, Verb};
use exit::{Exit, Failure};
use http::Admin;
use screen::Screen;

/// Runs the command that the process was started with, and tells how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    let json = cli.everywhere.json;
    run(cli).unwrap_or_else(|failure| {
        tell(&failure, json);
        ExitCode::from(failure.exit as u8)
    })
}

/// Help and version were asked for; anything else is a usage error, told as JSON where that was asked for.
fn misread(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that went away before the help ended is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let asked_for_json = std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
    if asked_for_json {
        let text = error.render().to_string();
        tell(&Failure::usage(text.trim().trim_start_matches("error: ")), true);
    } else {
        let _ = error.print();
    }
    ExitCode::from(Exit::Usage as u8)
}

fn tell(failure: &Failure, json: bool) {
    if json {
        eprintln!("{}", failure.json());
    } else {
        eprintln!("{}", failure.text());
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.verb {
        Verb::Serve(arguments) => service::serve(&cli.everywhere, arguments),
        verb => {
            let screen = Screen::of_stdout(cli.everywhere.json);
            dispatch(&cli.everywhere, &screen, verb).map(|exit| ExitCode::from(exit as u8))
        }
    }
}

fn dispatch(everywhere: &Everywhere, screen: &Screen, verb: Verb) -> Result<Exit, Failure> {
    let admin = || Admin::new(everywhere.admin());
    let acting = |actor: &Actor| admin().map(|admin| admin.acting_for(actor.on_behalf_of.as_deref()));
    match verb {
        Verb::Serve(arguments) => service::serve(everywhere, arguments).map(|_| Exit::Ok),
        Verb::Status => status::status(&admin()?, screen),
        Verb::Create(arguments) => keys::create(&acting(&arguments.actor)?, screen, arguments),
        Verb::List(arguments) => keys::list(&admin()?, screen, &arguments),
        Verb::Show(arguments) => keys::show(&admin()?, screen, &arguments),
        Verb::Edit(arguments) => keys::edit(&acting(&arguments.actor)?, screen, *arguments),
        Verb::Enable(arguments) => keys::switch(&acting(&arguments.actor)?, screen, arguments, true),
        Verb::Disable(arguments) => keys::switch(&acting(&arguments.actor)?, screen, arguments, false),
        Verb::Copy(arguments) => {
            keys::copy(&acting(&arguments.actor)?, screen, &arguments.key, arguments.name, arguments.account)
        }
        Verb::Rotate(arguments) => rotate::rotate(&acting(&arguments.actor)?, screen, arguments),
        Verb::Revoke(arguments) => rotate::revoke(&acting(&arguments.actor)?, screen, &arguments),
        Verb::Delete(arguments) => keys::delete(&acting(&arguments.actor)?, screen, &arguments),
        Verb::Undelete(arguments) => keys::undelete(&acting(&arguments.actor)?, screen, &arguments),
        Verb::History(arguments) => history::history(&admin()?, screen, &arguments),
        Verb::Usage(arguments) => usage::usage(&admin()?, screen, &arguments),
        Verb::Expiring(arguments) => keys::expiring(&admin()?, screen, &arguments),
        Verb::Denials(arguments) => traffic::denials(&admin()?, screen, &arguments),
        Verb::Functions(verb) => functions::functions(admin()?, screen, verb),
        Verb::Country(arguments) => traffic::country(&admin()?, screen, &arguments),
        Verb::Identify(arguments) => tokens::identify(&admin()?, screen, &arguments),
        Verb::Explain(arguments) => tokens::explain(&admin()?, screen, &arguments),
        Verb::Verify(arguments) => verify::verify(&everywhere.verify(), screen, &arguments),
        Verb::Import(arguments) => transfer::import(&acting(&arguments.actor)?, screen, &arguments),
        Verb::Export(arguments) => transfer::export(&admin()?, screen, &arguments),
        Verb::CheckConfig(arguments) => service::check_config(screen, &arguments),
        Verb::Completions(arguments) => service::completions(&arguments),
        Verb::Man(arguments) => service::man(&arguments),
    }
}
