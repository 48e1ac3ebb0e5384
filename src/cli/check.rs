use std::io::{self, IsTerminal, Read};
use std::path::Path;

use hyper::Method;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::upkeep::Check;
use super::exit::{Exit, Failure};
use super::http::{Admin, with_query};
use super::screen::{Hue, Screen, grouped};
use super::service;
use super::table::{Grid, field};
use crate::admin::wire::{CheckLine, CheckPartView, CheckReportView, HeadView, ProgressView};
use crate::catalog::Head;
use crate::daemon::ServeError;
use crate::daemon::check::{self, Look, Whose};

/// `check`
pub(crate) fn check(admin: impl FnOnce() -> Result<Admin, Failure>, screen: &Screen, arguments: &Check) -> Result<Exit, Failure> {
    let against = heads(&arguments.against)?;
    let whose = match (&arguments.config, &arguments.data_dir) {
        (Some(config), _) => Some(Whose::Config(config.clone())),
        (None, Some(data_dir)) => Some(Whose::Directory(data_dir.clone())),
        (None, None) => None,
    };
    let look = whose.map(|whose| Look {
        whose,
        pepper_file: arguments.pepper_file.clone(),
        previous_pepper_file: arguments.previous_pepper_file.clone(),
        no_pepper: arguments.no_pepper,
        against: against.clone(),
        acknowledge: arguments.acknowledge,
        believe_clock: arguments.believe_clock,
    });
    if arguments.head {
        let head = match &look {
            Some(look) => HeadView::from(check::head(look).map_err(|error| failure(&error))?),
            None => admin()?.get("/v1/history-head")?,
        };
        screen.show(&head, || format!("{}\n", head.head))?;
        return Ok(Exit::Ok);
    }
    let bar = Bar::new();
    let report = match &look {
        Some(look) => {
            let report = check::check(look, &mut |progress| {
                bar.show(&progress.into());
                true
            });
            report.map(CheckReportView::from).map_err(|error| failure(&error))
        }
        None => online(&admin()?, &against, &bar),
    };
    bar.clear();
    let report = report?;
    screen.show(&report, || text(screen, &report))?;
    Ok(if report.clean { Exit::Ok } else { Exit::No })
}

/// Asks the daemon that runs to look at itself.
fn online(admin: &Admin, against: &[Head], bar: &Bar) -> Result<CheckReportView, Failure> {
    let against: Vec<String> = against.iter().map(Head::to_string).collect();
    let against = (!against.is_empty()).then(|| against.join(","));
    let mut found = None;
    admin.lines(Method::POST, &with_query("/v1/check", &[("against", against)]), |line| {
        match serde_json::from_slice(line) {
            Ok(CheckLine::Progress(progress)) => bar.show(&progress),
            Ok(CheckLine::Report(report)) => found = Some(report),
            Err(error) => return Err(Failure::software(format!("the daemon's answer to a check is not understood: {error}"))),
        }
        Ok(())
    })?;
    found.ok_or_else(|| {
        Failure::new(Exit::Software, "check", "the check broke off", "the daemon ended the check without a report; its log says why")
    })
}

/// Why a store that no daemon should use cannot be looked at.
pub(super) fn failure(error: &ServeError) -> Failure {
    let (exit, hint) = match error {
        ServeError::Directory(_) => (Exit::TempFail, ""),
        ServeError::Pepper(_) => (Exit::Config, "; name it with --pepper-file, or leave out what needs it with --no-pepper"),
        _ => (service::exit_of(error), ""),
    };
    Failure::new(exit, "check", "the store cannot be looked at", format!("{error}{hint}"))
}

/// Heads as they are given: themselves, or files that hold them, a word at the beginning of each line.
fn heads(given: &[String]) -> Result<Vec<Head>, Failure> {
    let mut heads = Vec::new();
    for text in given {
        if let Ok(head) = text.parse() {
            heads.push(head);
            continue;
        }
        let mut lines = String::new();
        let read = if text == "-" {
            io::stdin().read_to_string(&mut lines)
        } else {
            std::fs::File::open(text).and_then(|mut file| file.read_to_string(&mut lines))
        };
        read.map_err(|error| Failure::file("read the noted heads from", Path::new(text), &error))?;
        for (number, line) in lines.lines().enumerate() {
            let Some(word) = line.split_whitespace().next() else { continue };
            let refused = |reason: String| Failure::new(Exit::Data, "head", "not a head", format!("{text}, line {}: {reason}", number + 1));
            heads.push(word.parse().map_err(refused)?);
        }
    }
    Ok(heads)
}

/// A bar on a terminal's standard error; nothing elsewhere.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Bar {
        if !io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("  {bar:30} {msg}  {human_pos} of about {human_len}  {elapsed}") {
            bar.set_style(style);
        }
        Bar(bar)
    }

    pub(super) fn show(&self, progress: &ProgressView) {
        self.0.set_length(progress.about.max(progress.done));
        self.0.set_position(progress.done);
        self.0.set_message(progress.part.clone());
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// The verdict first, then each part, and what is wrong with it.
pub(super) fn text(screen: &Screen, report: &CheckReportView) -> String {
    let mut text = String::new();
    let all: u64 = report.parts.iter().map(faults).sum();
    match (screen.terminal, report.clean) {
        (false, clean) => text.push_str(&format!("clean: {clean}\nstore: {}\nhead: {}\n", report.store, report.head)),
        (true, true) => text.push_str(&format!("{} Nothing is wrong with {}\n\n", screen.paint("✓", Hue::Good), report.store)),
        (true, false) => {
            let verdict = format!("✗ {} faults in {}", grouped(all), report.store);
            text.push_str(&format!("{}\n", screen.paint(&verdict, Hue::Bad)));
        }
    }
    for part in &report.parts {
        let lead = if screen.terminal { "  " } else { "fault: " };
        for fault in &part.faults {
            text.push_str(&format!("{lead}{}\n", screen.paint(&format!("{}: {fault}", part.part), Hue::Bad)));
        }
        if part.more_faults > 0 {
            text.push_str(&format!("{lead}{}: and {} more\n", part.part, part.more_faults));
        }
    }
    if screen.terminal && !report.clean {
        text.push_str("\n  Restore a backup, or start from the parts that are well. Look at the disk before anything else.\n\n");
    }
    let mut grid = Grid::new(&["PART", "CHECKED", "", "FAULTS", "SECONDS", "NOTE"]).right("CHECKED").right("FAULTS").right("SECONDS");
    for part in &report.parts {
        let number = |number: u64| if screen.terminal { grouped(number) } else { number.to_string() };
        let hue = if part.faults.is_empty() { Hue::Good } else { Hue::Bad };
        grid.row(vec![
            part.part.clone().into(),
            number(part.checked).into(),
            part.unit.clone().into(),
            field(number(faults(part)), hue),
            format!("{:.2}", part.took_ms as f64 / 1_000.0).into(),
            part.note.clone().unwrap_or_default().into(),
        ]);
    }
    text.push_str(&grid.render(screen));
    if screen.terminal {
        text.push_str(&format!("\n  head {}\n", report.head));
    }
    text
}

fn faults(part: &CheckPartView) -> u64 {
    part.faults.len() as u64 + part.more_faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_given_themselves_or_in_files() {
        let head = format!("7:{}", "ab".repeat(32));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("heads");
        std::fs::write(&file, format!("{head} noted on Monday\n\n{head}\n")).unwrap();
        let found = heads(&[head.clone(), file.display().to_string()]).unwrap();
        assert_eq!(found.iter().map(Head::to_string).collect::<Vec<_>>(), vec![head; 3]);
        std::fs::write(&file, "8:abc\n").unwrap();
        let refused = heads(&[file.display().to_string()]).unwrap_err();
        assert!(refused.exit == Exit::Data && refused.detail.contains("line 1"), "{}", refused.detail);
        assert_eq!(heads(&["7:xyz".to_owned()]).unwrap_err().exit, Exit::NoInput);
    }

    #[test]
    fn what_is_wrong_stands_first() {
        let part = |name: &str, faults: &[&str]| CheckPartView {
            part: name.into(),
            checked: 12,
            unit: "rows".into(),
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
            more_faults: 0,
            note: None,
            took_ms: 5,
        };
        let parts = vec![part("keys", &[]), part("names", &["key_1 is not found by its name"])];
        let report = CheckReportView { clean: false, store: "/db".into(), head: "1:00".into(), parts, took_ms: 9 };
        let mut screen = Screen { terminal: true, json: false, width: 80, colour: false, now: crate::key::Instant(0) };
        let shown = text(&screen, &report);
        assert!(shown.starts_with("✗ 1 faults in /db\n  names: key_1 is not found"), "{shown}");
        screen.terminal = false;
        assert!(text(&screen, &report).starts_with("clean: false\nstore: /db\nhead: 1:00\nfault: names: key_1"));
    }
}
