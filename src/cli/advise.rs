use hyper::Method;
use serde::{Deserialize, Serialize};

use super::args::traffic::Advise;
use super::ask;
use super::exit::{Exit, Failure};
use super::http::{Admin, key_path, with_query};
use super::notes::Note;
use super::screen::{Hue, Screen, counted, grouped};
use crate::admin::wire::{AdviceList, AdviceView, KeyView};
use crate::catalog::change::Patch;
use crate::key::{KeyId, KeyRef};

/// What `--apply` did, as `--json` prints it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Applied {
    /// Keys as they are now.
    changed: Vec<KeyView>,
    /// Keys that were not changed, and why.
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refused {
    key: String,
    detail: String,
}

/// The changes of one key, as one.
#[derive(Debug)]
struct Plan<'a> {
    id: KeyId,
    key: &'a str,
    revision: u64,
    patch: Patch,
}

/// `advise`
pub(crate) fn advise(admin: &Admin, screen: &Screen, arguments: &Advise) -> Result<Exit, Failure> {
    let kinds = if arguments.only.is_empty() { None } else { Some(arguments.only.join(",")) };
    let query = [
        ("key", arguments.key.as_ref().map(ToString::to_string)),
        ("account", arguments.account.clone()),
        ("kind", kinds),
        ("min_history", arguments.min_history.map(|span| span.to_string())),
        ("limit", arguments.limit.map(|limit| limit.to_string())),
    ];
    let query = with_query("/v1/advise", &query);
    let list: AdviceList = admin.get(&query)?;
    if arguments.apply {
        return apply(admin, screen, &list, &query, arguments.yes);
    }
    screen.show(&list, || match (list.advice.is_empty(), screen.terminal) {
        (true, true) => format!("{} Nothing to tighten on {}.\n", screen.paint("✓", Hue::Good), counted(list.keys, "key")),
        _ => text(screen, &list.advice),
    })?;
    if !screen.json && (list.advice.len() as u64) < list.total {
        eprintln!("{} of {} shown: --limit, or one KEY or --account", grouped(list.advice.len() as u64), grouped(list.total));
    }
    Ok(Exit::Ok)
}

fn text(screen: &Screen, advice: &[AdviceView]) -> String {
    let notes: Vec<Note<'_>> = advice
        .iter()
        .map(|advice| Note {
            of: &advice.key,
            kind: &advice.kind,
            hue: Hue::Warn,
            severity: None,
            text: &advice.evidence,
            command: &advice.command,
        })
        .collect();
    super::notes::notes(screen, &notes, false)
}

/// Shows what will be done, asks, and does it: each key one change, which another admin's change in between refuses, and so does a use that the advice did not know.
fn apply(admin: &Admin, screen: &Screen, list: &AdviceList, query: &str, yes: bool) -> Result<Exit, Failure> {
    let advice: Vec<AdviceView> = list.advice.iter().filter(|advice| advice.edit.is_some()).cloned().collect();
    let plans = plans(&advice);
    let mut applied = Applied::default();
    let mut now = Vec::new();
    if !plans.is_empty() {
        if !screen.json {
            // Not on standard output, which is for what was done.
            let shown = Screen { terminal: true, colour: false, ..*screen };
            eprint!("{}", text(&shown, &advice));
        }
        ask::confirm(yes, &format!("Apply this to {}?", counted(plans.len() as u64, "key")))?;
        // The question may have stood for long, and keys are used meanwhile.
        now = admin.get::<AdviceList>(query)?.advice;
    }
    let mut exit = Exit::Ok;
    for plan in plans {
        if !still_stands(plan.id, &advice, &now) {
            exit = Exit::TempFail;
            applied.refused.push(Refused { key: plan.key.to_owned(), detail: "its advice is another by now; look again".to_owned() });
            continue;
        }
        let path = key_path(&KeyRef::Id(plan.id), "");
        match admin.send::<KeyView>(Method::PATCH, &path, &plan.patch, Some(plan.revision)) {
            Ok(key) => applied.changed.push(key),
            // A key that changed meanwhile, or is gone, is none of the others' business. Anything else would meet them, too.
            Err(failure) if matches!(failure.exit, Exit::TempFail | Exit::Data | Exit::NoInput) => {
                exit = Exit::TempFail;
                applied.refused.push(Refused { key: plan.key.to_owned(), detail: failure.detail });
            }
            Err(failure) => return Err(failure.after(&format!("{} had been changed", counted(applied.changed.len() as u64, "key")))),
        }
    }
    screen.show(&applied, || {
        let mut text = String::new();
        if screen.terminal {
            let count = counted(applied.changed.len() as u64, "key");
            text.push_str(&format!("{} Changed {count}; 'doorward history' shows each.\n", screen.paint("✓", Hue::Good)));
        } else {
            applied.changed.iter().for_each(|key| text.push_str(&format!("{}\n", key.id)));
        }
        text
    })?;
    if !screen.json {
        applied.refused.iter().for_each(|Refused { key, detail }| eprintln!("{key} was not changed: {detail}"));
    }
    Ok(exit)
}

/// Whether the edits that were advised for a key are still advised as they were.
fn still_stands(id: KeyId, shown: &[AdviceView], now: &[AdviceView]) -> bool {
    let of_key = |advice: &'_ &AdviceView| advice.key_id == id && advice.edit.is_some();
    shown.iter().filter(of_key).map(|advice| &advice.command).eq(now.iter().filter(of_key).map(|advice| &advice.command))
}

/// One patch for each key. Advice of one key stands together, and no two pieces of it touch the same entry.
fn plans(advice: &[AdviceView]) -> Vec<Plan<'_>> {
    let mut plans: Vec<Plan<'_>> = Vec::new();
    for AdviceView { key_id, key, revision, edit, .. } in advice {
        let Some(edit) = edit else { continue };
        match plans.last_mut().filter(|plan| plan.id == *key_id) {
            Some(plan) => {
                add(&mut plan.patch.add_grants, &edit.add_grants);
                add(&mut plan.patch.remove_grants, &edit.remove_grants);
                add(&mut plan.patch.add_networks, &edit.add_networks);
                add(&mut plan.patch.remove_networks, &edit.remove_networks);
                add(&mut plan.patch.add_countries, &edit.add_countries);
                add(&mut plan.patch.remove_countries, &edit.remove_countries);
            }
            None => plans.push(Plan { id: *key_id, key, revision: *revision, patch: edit.clone() }),
        }
    }
    plans
}

/// Two wildcards may become the same name.
fn add<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for entry in more {
        if !list.contains(entry) {
            list.push(entry.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Instant;

    #[test]
    fn advice_stands_until_a_use_makes_it_another() {
        let with = |command: &str| AdviceView { command: command.into(), ..piece(1, Some(Patch::default())) };
        let shown = [with("edit a"), with("edit b"), piece(1, None), piece(2, Some(Patch::default()))];
        let id = KeyId([1; 16]);
        assert!(still_stands(id, &shown, &shown));
        assert!(still_stands(id, &shown, &[with("edit a"), with("edit b")]), "neither what a person decides nor other keys matter");
        assert!(!still_stands(id, &shown, &[with("edit a")]), "what was never used is used now");
        assert!(!still_stands(id, &shown, &[with("edit a"), with("edit b and c")]));
        assert!(!still_stands(id, &shown, &[]));
    }

    fn piece(id: u8, edit: Option<Patch>) -> AdviceView {
        AdviceView {
            key_id: KeyId([id; 16]),
            key: format!("acme/{id}"),
            revision: 4,
            kind: "unused_grant".into(),
            evidence: String::new(),
            since: Instant(0),
            command: String::new(),
            edit,
        }
    }

    #[test]
    fn the_advice_of_a_key_is_one_change() {
        let grants = |remove: &[&str], add: &[&str]| Patch {
            remove_grants: remove.iter().map(|text| text.parse().unwrap()).collect(),
            add_grants: add.iter().map(|text| text.parse().unwrap()).collect(),
            ..Patch::default()
        };
        let advice = [
            piece(1, Some(grants(&["a"], &[]))),
            piece(1, Some(grants(&["b.*"], &["b.c"]))),
            piece(1, Some(grants(&["*"], &["b.c", "d"]))),
            piece(1, None),
            piece(2, Some(grants(&["a"], &[]))),
        ];
        let plans = plans(&advice);
        assert_eq!(plans.len(), 2);
        assert_eq!(plans[0].patch, grants(&["a", "b.*", "*"], &["b.c", "d"]));
        assert_eq!((plans[1].key, plans[1].revision), ("acme/2", 4));
    }
}
