//! The `doorward` command: flags in, a request to the daemon, a document or a screen out.

mod advise;
mod args;
mod ask;
mod backup;
mod bench;
mod check;
mod exit;
mod functions;
mod history;
mod http;
mod keys;
mod notes;
mod rotate;
mod screen;
mod service;
mod status;
mod table;
mod tokens;
mod traffic;
mod transfer;
mod unusual;
mod usage;
mod verify;
mod view;
mod wizard;

use std::borrow::Cow;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::key::without_tokens;
use crate::{daemon, systemd};
use args::{Actor, Cli, Everywhere, Verb};
use exit::{Exit, Failure};
use http::Admin;
use screen::Screen;

/// Runs the command that the process was started with, and tells how it ended.
pub fn main() -> ExitCode {
    // The command has tokens in its memory, too, and `check` and `restore` the pepper.
    daemon::keep_secrets();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    let json = cli.everywhere.json;
    let exit = dispatch(&cli.everywhere, &Screen::of_stdout(json), cli.verb).unwrap_or_else(|failure| {
        tell(&failure, json);
        failure.exit
    });
    ExitCode::from(exit as u8)
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
        tell(&Failure::usage(without_tokens(text.trim().trim_start_matches("error: ")).as_ref()), true);
    } else {
        // An argument that is a token is repeated by none of this; only where there is one does the text lose its colours.
        let text = error.render().to_string();
        match without_tokens(&text) {
            Cow::Borrowed(_) => drop(error.print()),
            Cow::Owned(text) => {
                eprintln!("{text}Tokens are read from a file or standard input (--token-file), since everybody can see arguments.")
            }
        }
    }
    ExitCode::from(Exit::Usage as u8)
}

fn tell(failure: &Failure, json: bool) {
    if json {
        eprintln!("{}", failure.json());
    } else if systemd::logs_to_journal() {
        // From a unit: why a daemon does not start, or a backup of the night failed, is an error there.
        eprint!("{}", systemd::journal_lines(systemd::ERROR, &failure.text()));
    } else {
        eprintln!("{}", failure.text());
    }
}

fn dispatch(everywhere: &Everywhere, screen: &Screen, verb: Verb) -> Result<Exit, Failure> {
    let admin = || Admin::new(everywhere.admin());
    let acting = |actor: &Actor| admin().map(|admin| admin.acting_for(actor.on_behalf_of.as_deref()));
    match verb {
        Verb::Serve(arguments) => service::serve(everywhere, arguments),
        Verb::Status => status::status(&admin()?, screen),
        Verb::Create(arguments) => keys::create(&acting(&arguments.actor)?, screen, arguments),
        Verb::List(arguments) => keys::list(&admin()?, screen, &arguments),
        Verb::Show(arguments) => keys::show(&admin()?, screen, &arguments),
        Verb::Edit(arguments) => keys::edit(&acting(&arguments.actor)?, screen, *arguments),
        Verb::Enable(arguments) => keys::switch(&acting(&arguments.actor)?, screen, arguments, true),
        Verb::Disable(arguments) => keys::switch(&acting(&arguments.actor)?, screen, arguments, false),
        Verb::Copy(arguments) => keys::copy(&acting(&arguments.actor)?, screen, &arguments.key, arguments.name, arguments.account),
        Verb::Rotate(arguments) => rotate::rotate(&acting(&arguments.actor)?, screen, arguments),
        Verb::Revoke(arguments) => rotate::revoke(&acting(&arguments.actor)?, screen, &arguments),
        Verb::Delete(arguments) => keys::delete(&acting(&arguments.actor)?, screen, &arguments),
        Verb::Undelete(arguments) => keys::undelete(&acting(&arguments.actor)?, screen, &arguments),
        Verb::History(arguments) => history::history(&admin()?, screen, &arguments),
        Verb::Usage(arguments) => usage::usage(&admin()?, screen, &arguments),
        Verb::Expiring(arguments) => keys::expiring(&admin()?, screen, &arguments),
        Verb::Unusual(arguments) => unusual::unusual(&admin()?, screen, &arguments),
        Verb::Advise(arguments) => advise::advise(&acting(&arguments.actor)?, screen, &arguments),
        Verb::Denials(arguments) => traffic::denials(&admin()?, screen, &arguments),
        Verb::Functions(verb) => functions::functions(admin, screen, verb),
        Verb::Country(arguments) => traffic::country(&admin()?, screen, &arguments),
        Verb::Identify(arguments) => tokens::identify(&admin()?, screen, &arguments),
        Verb::Explain(arguments) => tokens::explain(&admin()?, screen, &arguments),
        Verb::Verify(arguments) => verify::verify(&everywhere.verify(), screen, &arguments),
        Verb::Import(arguments) => transfer::import(&acting(&arguments.actor)?, screen, &arguments),
        Verb::Export(arguments) => transfer::export(admin, screen, &arguments),
        Verb::Backup(arguments) => backup::backup(admin, screen, &arguments),
        Verb::Restore(arguments) => backup::restore(screen, &arguments),
        Verb::Check(arguments) => check::check(admin, screen, &arguments),
        Verb::Bench(arguments) => bench::bench(everywhere, screen, arguments),
        Verb::BenchEcho(arguments) => bench::echo(&arguments),
        Verb::CheckConfig(arguments) => service::check_config(screen, &arguments),
        Verb::Completions(arguments) => service::completions(&arguments),
        Verb::Man(arguments) => service::man(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound_and_has_every_verb() {
        let command = Cli::command();
        command.clone().debug_assert();
        let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let wanted = "serve status create list show edit enable disable copy rotate revoke delete undelete history usage expiring \
                      unusual advise denials functions country identify explain verify import export backup restore check bench check-config completions bench-echo man";
        assert_eq!(verbs, wanted.split_whitespace().collect::<Vec<_>>());
    }

    /// An example that is broken within is not one that can be copied.
    #[test]
    fn examples_fit_eighty_columns() {
        fn look(command: &clap::Command) {
            let help = [command.get_after_help(), command.get_after_long_help()].into_iter().flatten().map(ToString::to_string);
            for line in help.collect::<Vec<_>>().iter().flat_map(|help| help.lines()).filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }

    #[test]
    fn each_verb_is_read_with_its_flags() {
        for line in [
            "serve --config f",
            "serve --data-dir d --run-dir r --country-db c",
            "status --json",
            "create",
            "create --account a --name n --grant leads.* x --grant y,z --network 10.0.0.0/8 --country DE AT --unknown-country allow \
             --expires never --not-before 2030-01-01 --tag a=b c=d --description d --request-id r --as me",
            "list --account a --name n --tag a=b --state not_yet_valid --function f --expiring-within 30d --deleted --limit 5 --after x",
            "list --all",
            "list --other-pepper --deleted",
            "show a/b --run-dir d",
            "edit a/b --add-grant x --remove-grant y --expires 30d --if-revision 3 --add-tag a=b --remove-tag c",
            "edit --account a --tag t=v --yes --network any",
            "enable a/b",
            "disable --account a --tag b=c --yes --as me",
            "copy a/b --name c --account d",
            "rotate a/b --overlap 7d --request-id x",
            "rotate a/b --extend 7d",
            "rotate a/b --finish",
            "rotate a/b --cancel --if-revision 2",
            "revoke key_00000000000000000000000000000001 --version 1",
            "delete a/b",
            "undelete a/b",
            "history",
            "history a/b --limit 5",
            "history --function f --before 9",
            "usage a/b --last 7d",
            "usage --account a --since 2026-01-01 --until 2026-02-01 --by function,verdict",
            "usage --top 20 --by verdict --since 7d --until 2026-11-23T09:30 --local --csv",
            "expiring --within 30d",
            "unusual",
            "unusual a/b --since 7d --severity warning --limit 5 --json",
            "unusual --account a --since 2026-01-01",
            "advise",
            "advise a/b --only unused_grant,wide_grant --min-history 30d",
            "advise --account a --apply --yes --as me --json",
            "denials --limit 3",
            "functions list",
            "functions list --data-dir d --json",
            "functions add f --restricted",
            "functions restrict f",
            "functions unrestrict f --as me",
            "functions remove f --with-grants --yes",
            "country ::1",
            "identify --token-file -",
            "explain --key a/b --function f --ip 10.0.0.1",
            "explain a/b --function f",
            "explain --token-file t --function f",
            "verify --function f --ip ::1 --token-file t --json --verify-socket s",
            "verify --jsonl --rate 100 --summary",
            "import --jsonl",
            "import f --generate --tokens-out o --allow-weak",
            "export --jsonl --digests",
            "export --jsonl --data-dir d",
            "backup d --keep 3 --no-verify",
            "backup d --list --json",
            "restore d --id 3 --data-dir n --pepper-file p --previous-pepper-file q",
            "check",
            "check --config f --pepper-file p --previous-pepper-file q --against 7:ab --against f",
            "check --data-dir d --no-pepper",
            "check --data-dir d --acknowledge",
            "check --data-dir d --believe-clock",
            "check --head",
            "bench",
            "bench --keys 2000 --seconds 0.5 --scenario pinned many --scenario open-loop --rounds 11 --rate 1000 --zipf --country-db f --json",
            "bench --run-dir r --tokens f",
            "check-config f",
            "check-config --config f",
            "completions bash",
            "man d",
        ] {
            let words = std::iter::once("doorward").chain(line.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error() {
        for line in [
            "",
            "show web",
            "show key_123",
            "create --expires tomorrow --name n --account a",
            "create --network 10.0.0.0/33",
            "create --country UK",
            "create --grant a*b",
            "create --tag x",
            "edit",
            "edit --add-grant x",
            "edit --name n --account a",
            "edit a/b --grant x --add-grant y",
            "enable",
            "enable a/b --account a",
            "rotate a/b --finish --cancel",
            "rotate a/b --overlap soon",
            "rotate a/b --extend 1d --request-id x",
            "verify",
            "verify --function f --jsonl",
            "verify --function a*b",
            "verify --function f --token dw_x",
            "import --tokens-out f",
            "list --limit 0",
            "list --all --limit 5",
            "usage --by colour",
            "unusual --since yesterday",
            "unusual --severity loud",
            "advise --only nonsense",
            "advise --yes",
            "advise a/b --account a",
            "usage --top 0",
            "usage --top 1001",
            "usage a/b --top 3",
            "usage --since yesterday",
            "usage --last 7d --since 7d",
            "country example.org",
            "serve",
            "serve --config f --data-dir d",
            "backup",
            "backup d --keep 0",
            "restore d",
            "check --config f --data-dir d",
            "check --acknowledge",
            "check --believe-clock",
            "check --no-pepper",
            "check --head --against x",
            "bench --keys 0",
            "bench --rounds 8",
            "bench --seconds 0",
            "bench --rate 0",
            "bench --scenario fast",
            "bench --tokens f --keys 5",
            "bench --tokens f --zipf",
        ] {
            let words = std::iter::once("doorward").chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
