use std::io;
use std::path::Path;

use hyper::Method;
use serde_json::json;

use super::args::upkeep::{Backup, Restore};
use super::check::Bar;
use super::exit::{Exit, Failure};
use super::http::Admin;
use super::screen::{Hue, Screen, grouped};
use super::status::bytes;
use super::table::{Grid, card};
use crate::admin::wire::{CheckReportView, CheckpointView, ProgressView};
use crate::backup::{BackupError, Backups, Record, Restored, Source, Taken};
use crate::daemon::restore::{self, RestoreOptions};

/// `backup`
pub(crate) fn backup(admin: impl FnOnce() -> Result<Admin, Failure>, screen: &Screen, arguments: &Backup) -> Result<Exit, Failure> {
    if arguments.list {
        return list(screen, &arguments.directory);
    }
    let admin = admin()?;
    let backups = Backups::open(&arguments.directory).map_err(|error| failure(&error))?;
    let checkpoint: CheckpointView = admin.act(Method::POST, "/v1/checkpoint", None)?;
    let source = Source {
        path: checkpoint.path.into(),
        head: checkpoint.head,
        store_id: checkpoint.store_id,
        pepper_id: checkpoint.pepper_id,
        previous_pepper_id: checkpoint.previous_pepper_id,
        taken_at: checkpoint.made_at,
    };
    let bar = Bar::new();
    let taken = backups.take(&source, !arguments.no_verify, &mut |part, done, about| bar.show(&progress(part, done, about)));
    bar.clear();
    // Whatever came of it: its links keep room on the disk.
    if let Err(left) = admin.act::<()>(Method::DELETE, "/v1/checkpoint", None) {
        eprintln!("doorward: the checkpoint {} was not removed, the next backup will: {}", source.path.display(), left.detail);
    }
    let taken = taken.map_err(|error| failure(&error))?;
    let removed = match arguments.keep {
        Some(keep) => backups.keep(keep).map_err(|error| failure(&error).after(&format!("backup {} was taken", taken.record.id)))?,
        None => Vec::new(),
    };
    show_taken(screen, &taken, &removed, !arguments.no_verify)?;
    if !taken.damaged.is_empty() {
        let (id, files) = (taken.record.id, taken.damaged.join(" "));
        eprintln!(
            "doorward: damaged in the backup before, and copied anew for backup {id}: {files}. No earlier backup that has them can be restored: look at that disk"
        );
    }
    Ok(Exit::Ok)
}

fn progress(part: &str, done: u64, about: u64) -> ProgressView {
    ProgressView { part: part.to_owned(), done, about }
}

fn show_taken(screen: &Screen, taken: &Taken, removed: &[u32], verified: bool) -> Result<(), Failure> {
    let record = &taken.record;
    let mut document = view(record);
    document["path"] = json!(taken.path);
    document["copied_bytes"] = json!(taken.copied);
    document["verified"] = json!(verified);
    document["removed"] = json!(removed);
    document["damaged_before"] = json!(taken.damaged);
    screen.show(&document, || {
        let removed = removed.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        if !screen.terminal {
            return format!(
                "id: {}\npath: {}\ntaken_at: {}\nhead: {}\npepper_id: {}\nbytes: {}\ncopied_bytes: {}\nverified: {verified}\nremoved: {removed}\n",
                record.id,
                taken.path.display(),
                record.taken_at,
                record.head,
                record.pepper_id,
                record.bytes(),
                taken.copied
            );
        }
        let mut text = format!("{} Backup {} is in {}\n", screen.paint("✓", Hue::Good), record.id, taken.path.display());
        let size = format!("{}, of which {} were copied and the rest shared with the one before", bytes(record.bytes()), bytes(taken.copied));
        let mut lines = vec![("size", size), ("changes", grouped(sequence(record)))];
        lines.push(("verified", if verified { "every file read again, every record looked at" } else { "no" }.to_owned()));
        if !removed.is_empty() {
            lines.push(("removed", removed));
        }
        text.push_str(&card(screen, &lines));
        let warning = format!("The pepper {} is not in it: without it no key of this backup can be verified.", record.pepper_id);
        text.push_str(&format!("\n  {}\n  Keep a copy of it, and keep it apart from the backups.\n", screen.paint(&warning, Hue::Warn)));
        text
    })
}

fn view(record: &Record) -> serde_json::Value {
    json!({
        "id": record.id,
        "taken_at": record.taken_at,
        "doorward": record.doorward,
        "store_id": record.store_id,
        "pepper_id": record.pepper_id,
        "previous_pepper_id": record.previous_pepper_id,
        "head": record.head,
        "sequence": sequence(record),
        "files": record.files.len(),
        "bytes": record.bytes(),
    })
}

fn sequence(record: &Record) -> u64 {
    record.head.split_once(':').and_then(|(sequence, _)| sequence.parse().ok()).unwrap_or(0)
}

fn list(screen: &Screen, directory: &Path) -> Result<Exit, Failure> {
    let found = Backups::open_to_read(directory).list().map_err(|error| failure(&error))?;
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    for record in found {
        match record {
            Ok(record) => records.push(record),
            Err(error) => damaged.push(error.to_string()),
        }
    }
    let document = json!({ "backups": records.iter().map(view).collect::<Vec<_>>(), "damaged": damaged });
    screen.show(&document, || {
        let mut grid = Grid::new(&["ID", "TAKEN", "CHANGES", "SIZE", "PEPPER"]).right("ID").right("CHANGES").right("SIZE");
        for record in &records {
            let (changes, size) = if screen.terminal {
                (grouped(sequence(record)), bytes(record.bytes()))
            } else {
                (sequence(record).to_string(), record.bytes().to_string())
            };
            let row = vec![
                record.id.to_string().into(),
                screen.moment(record.taken_at).into(),
                changes.into(),
                size.into(),
                [&record.pepper_id].into_iter().chain(&record.previous_pepper_id).cloned().collect::<Vec<_>>().join(" ").into(),
            ];
            grid.row(row);
        }
        let mut text = if records.is_empty() && screen.terminal { "There is no backup yet.\n".to_owned() } else { grid.render(screen) };
        damaged.iter().for_each(|error| text.push_str(&format!("{}\n", screen.paint(error, Hue::Bad))));
        text
    })?;
    Ok(if damaged.is_empty() { Exit::Ok } else { Exit::No })
}

/// `restore`
pub(crate) fn restore(screen: &Screen, arguments: &Restore) -> Result<Exit, Failure> {
    let options = RestoreOptions {
        backups: arguments.directory.clone(),
        id: arguments.id,
        data_dir: arguments.data_dir.clone(),
        pepper_file: arguments.pepper_file.clone(),
        previous_pepper_file: arguments.previous_pepper_file.clone(),
    };
    let bar = Bar::new();
    let outcome = restore::restore(&options, &mut |part, done, about| bar.show(&progress(part, done, about)));
    bar.clear();
    let (restored, with_pepper) = outcome.map_err(|error| failure(&error))?;
    show_restored(screen, &options, restored, with_pepper)?;
    Ok(Exit::Ok)
}

fn show_restored(screen: &Screen, options: &RestoreOptions, restored: Restored, with_pepper: bool) -> Result<(), Failure> {
    let record = &restored.record;
    let mut document = view(record);
    document["path"] = json!(restored.path);
    document["macs_verified"] = json!(with_pepper);
    document["report"] = json!(CheckReportView::from(restored.report.clone()));
    let data_dir = options.data_dir.display();
    let pepper_file = options.data_dir.join("pepper");
    screen.show(&document, || {
        if !screen.terminal {
            let (id, path, at, head) = (record.id, restored.path.display(), record.taken_at, &record.head);
            return format!("id: {id}\npath: {path}\ntaken_at: {at}\nhead: {head}\npepper_id: {}\nmacs_verified: {with_pepper}\n", record.pepper_id);
        }
        let mut text = format!("{} Backup {} is restored to {}\n", screen.paint("✓", Hue::Good), record.id, restored.path.display());
        let lines = [("taken", screen.moment(record.taken_at)), ("changes", grouped(sequence(record))), ("pepper", record.pepper_id.clone())];
        text.push_str(&card(screen, &lines));
        let warning = format!(
            "It ends at change {}. Whatever was changed later is not in it: keys made since are unknown, and keys revoked, disabled or deleted since are good again.",
            sequence(record)
        );
        text.push_str(&format!("\n  {}\n  Look at what you know of the time since, and do it again before you let requests in.\n\n  Then:\n", screen.paint(&warning, Hue::Warn)));
        if !pepper_file.exists() {
            text.push_str(&format!("    put the pepper {} into {}, mode 0600, or where pepper_file says\n", record.pepper_id, pepper_file.display()));
        }
        if !with_pepper {
            text.push_str(&format!("    doorward check --data-dir {data_dir}      verifies the MACs of the history, which needs the pepper\n"));
        }
        text.push_str(&format!("    start the daemon on {data_dir}\n"));
        text
    })?;
    if !screen.terminal {
        eprintln!(
            "doorward: the restored store ends at change {}: keys made later are unknown, and keys revoked, disabled or deleted later are good again",
            sequence(record)
        );
    }
    Ok(())
}

fn failure(error: &BackupError) -> Failure {
    let exit = match error {
        BackupError::Io { error, .. } => match error.kind() {
            io::ErrorKind::NotFound => Exit::NoInput,
            io::ErrorKind::PermissionDenied => Exit::NoPermission,
            _ => Exit::Io,
        },
        BackupError::InUse(_) | BackupError::Stopped => Exit::TempFail,
        BackupError::None { .. } => Exit::NoInput,
        BackupError::Damaged { .. } | BackupError::AnotherStore { .. } | BackupError::Unwell(_) => Exit::Data,
        BackupError::NotEmpty { .. } => Exit::CantCreate,
        BackupError::Pepper(_) => Exit::Config,
        BackupError::Store(_) => Exit::Io,
    };
    Failure::new(exit, "backup", "the backup failed", error.to_string())
}
