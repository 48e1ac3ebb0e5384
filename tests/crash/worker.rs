//! An admin who changes keys and functions of his own without a pause, and knows what he was told: the model that the daemon is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use doorward::client::{Client, Request};
use doorward::key::Verdict;
use serde_json::{Value, json};

use crate::Dice;
use crate::admin::{Admin, Broke};

/// Keys that one admin has at a time, deleted ones included.
const KEYS: usize = 10;
/// What every key may call.
const FUNCTION: &str = "leads.list";

/// An admin.
pub(crate) struct Worker {
    account: String,
    dice: Dice,
    keys: Vec<Held>,
    /// Whether each of his functions is registered, and restricted.
    functions: BTreeMap<String, Option<bool>>,
    names: u64,
    requests: u64,
    /// What was asked and not answered.
    open: Option<Open>,
    /// Changes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Open changes of which the store had, and had not, heard.
    pub(crate) open_made: u64,
    pub(crate) open_lost: u64,
}

/// A key as its admin was told that it is.
struct Held {
    id: String,
    /// The last answer that showed it.
    view: Value,
    /// By version from 1; none where the answer that told it was lost.
    tokens: Vec<Option<String>>,
    revoked: BTreeSet<usize>,
    retired: BTreeSet<usize>,
    disabled: bool,
    deleted: bool,
    last_action: &'static str,
}

#[derive(Debug, Clone)]
enum Open {
    Create { body: Value },
    Change { id: String, step: Step },
    Function { name: String, after: Option<bool> },
}

#[derive(Debug, Clone)]
enum Step {
    Describe(u64),
    Rotate { overlap: bool, request_id: String },
    Revoke(usize),
    Disable,
    Enable,
    Delete,
    Undelete,
}

impl Worker {
    pub(crate) fn new(number: u64, dice: Dice) -> Worker {
        Worker {
            account: format!("w{number}"),
            dice,
            keys: Vec::new(),
            functions: BTreeMap::new(),
            names: 0,
            requests: 0,
            open: None,
            acknowledged: 0,
            open_made: 0,
            open_lost: 0,
        }
    }

    /// Changes one thing after another until the daemon is gone.
    pub(crate) fn work(&mut self, run_dir: &Path) {
        let _: Result<(), Broke> = self.try_work(run_dir);
    }

    fn try_work(&mut self, run_dir: &Path) -> Result<(), Broke> {
        let mut admin = Admin::connect(run_dir)?;
        let mut door = Client::connect(&run_dir.join("verify.sock")).map_err(|_| Broke)?;
        // A daemon that was killed comes back only when this is over.
        door.set_patience(Duration::ZERO);
        loop {
            let open = self.draw();
            self.open = Some(open.clone());
            let changed = self.ask(&mut admin, &open)?;
            self.open = None;
            self.acknowledged += 1;
            if let Some(at) = changed {
                // Visible before the answer, on a connection that was open before.
                for (token, verdict) in self.keys[at].verdicts() {
                    let answer = door.verify(&request(&token)).map_err(|_| Broke)?;
                    assert_eq!(answer.verdict, verdict, "right after its answer: {open:?}");
                }
            }
        }
    }

    /// After a restart: whatever was acknowledged is there, whole; what was open is there whole, or not at all. Returns when nothing is open any more.
    pub(crate) fn settle(&mut self, run_dir: &Path) {
        let mut admin = Admin::connect(run_dir).expect("a daemon that answers");
        let open = self.open.take();
        let about = match &open {
            Some(Open::Change { id, .. }) => Some(id.clone()),
            _ => None,
        };
        for held in self.keys.iter().filter(|held| about.as_ref() != Some(&held.id)) {
            assert_eq!(shown(&mut admin, &held.id), Some(held.view.clone()), "a key that was acknowledged");
        }
        self.check_functions(&mut admin, open.as_ref());
        match open {
            Some(Open::Create { body }) => self.settle_creation(&mut admin, &body),
            Some(Open::Change { id, step }) => self.settle_change(&mut admin, &id, step),
            Some(Open::Function { .. }) | None => (),
        }
        let mut door = Client::connect(&run_dir.join("verify.sock")).expect("a connection");
        for held in &self.keys {
            for (token, verdict) in held.verdicts() {
                assert_eq!(door.verify(&request(&token)).expect("an answer").verdict, verdict, "{}", held.view);
            }
            let path = format!("/v1/keys/{}/history?limit=1", held.id);
            let history = admin.done("GET", &path, &Value::Null).expect("a daemon that answers");
            assert_eq!(history["entries"][0]["action"], held.last_action, "{}", held.view);
        }
    }

    fn settle_creation(&mut self, admin: &mut Admin, body: &Value) {
        let path = format!("/v1/keys/{}%2F{}", self.account, body["name"].as_str().expect("a name"));
        let (status, found) = admin.ask("GET", &path, &Value::Null).expect("a daemon that answers");
        self.count_open(status == 200);
        // The same request again says what became of the first.
        let made = admin.done("POST", "/v1/keys", body).expect("a daemon that answers");
        assert_eq!(made["replayed"], status == 200, "{made}");
        assert!(status == 404 || found["id"] == made["id"], "{found} {made}");
        self.keys.push(Held::made(&made));
    }

    fn settle_change(&mut self, admin: &mut Admin, id: &str, step: Step) {
        let at = self.keys.iter().position(|held| held.id == id).expect("a key of its admin");
        let found = shown(admin, id).unwrap_or_else(|| panic!("{id} is gone"));
        let was_made = found["revision"] != self.keys[at].view["revision"];
        self.count_open(was_made);
        if !was_made {
            assert_eq!(found, self.keys[at].view, "a change that was not made left something behind: {step:?}");
        }
        if let Step::Rotate { .. } = &step {
            let answer = admin.done("POST", &path_of(id, &step), &step.body()).expect("a daemon that answers");
            assert_eq!(answer["replayed"], was_made, "{answer}");
            return self.keys[at].apply(&step, &answer);
        }
        if was_made {
            self.keys[at].apply(&step, &found);
        }
    }

    fn count_open(&mut self, made: bool) {
        if made {
            self.open_made += 1;
        } else {
            self.open_lost += 1;
        }
    }

    fn check_functions(&mut self, admin: &mut Admin, open: Option<&Open>) {
        let list = admin.done("GET", "/v1/functions", &Value::Null).expect("a daemon that answers");
        for (name, expected) in &mut self.functions {
            let found = list["functions"].as_array().expect("functions").iter().find(|function| function["name"] == **name);
            let found = found.map(|function| function["restricted"].as_bool().expect("true or false"));
            let may_be = match open {
                Some(Open::Function { name: of, after }) if of == name => Some(*after),
                _ => None,
            };
            assert!(found == *expected || Some(found) == may_be, "{name}: {found:?}, not {expected:?}");
            *expected = found;
        }
    }

    /// Asks for a change. If it is one of a key: which.
    fn ask(&mut self, admin: &mut Admin, open: &Open) -> Result<Option<usize>, Broke> {
        match open {
            Open::Create { body } => {
                let made = admin.done("POST", "/v1/keys", body)?;
                self.keys.push(Held::made(&made));
                Ok(Some(self.keys.len() - 1))
            }
            Open::Change { id, step } => {
                let method = match step {
                    Step::Describe(_) => "PATCH",
                    Step::Delete => "DELETE",
                    _ => "POST",
                };
                let answer = admin.done(method, &path_of(id, step), &step.body())?;
                let at = self.keys.iter().position(|held| held.id == *id).expect("a key of its admin");
                self.keys[at].apply(step, &answer);
                Ok(Some(at))
            }
            Open::Function { name, after } => {
                let path = format!("/v1/functions/{name}");
                match (self.functions[name], after) {
                    (None, Some(restricted)) => admin.done("POST", "/v1/functions", &json!({ "name": name, "restricted": restricted }))?,
                    (Some(_), Some(restricted)) => admin.done("PATCH", &path, &json!({ "restricted": restricted }))?,
                    (_, None) => admin.done("DELETE", &path, &Value::Null)?,
                };
                self.functions.insert(name.clone(), *after);
                Ok(None)
            }
        }
    }

    fn draw(&mut self) -> Open {
        if self.dice.percent(8) {
            return self.draw_function();
        }
        if self.keys.is_empty() || (self.keys.len() < KEYS && self.dice.percent(20)) {
            self.names += 1;
            let (name, request_id) = (format!("k{}", self.names), self.request_id());
            let body = json!({ "account": self.account, "name": name, "grants": ["leads.*"], "request_id": request_id });
            return Open::Create { body };
        }
        let at = self.dice.below(self.keys.len() as u64) as usize;
        // One that has had its time makes room; it stays in the store.
        if self.keys[at].deleted && self.dice.percent(50) {
            self.keys.swap_remove(at);
            return self.draw();
        }
        let request_id = self.request_id();
        let held = &self.keys[at];
        let step = if held.deleted {
            Step::Undelete
        } else {
            match self.dice.below(100) {
                0..30 => Step::Describe(self.dice.bits()),
                30..55 => Step::Rotate { overlap: self.dice.percent(50), request_id },
                55..70 => match (1..=held.tokens.len()).rev().find(|version| !held.revoked.contains(version)) {
                    Some(version) => Step::Revoke(version),
                    None => Step::Delete,
                },
                70..90 if held.disabled => Step::Enable,
                70..90 => Step::Disable,
                _ => Step::Delete,
            }
        };
        Open::Change { id: held.id.clone(), step }
    }

    fn draw_function(&mut self) -> Open {
        let name = format!("{}.f{}", self.account, self.dice.below(4));
        let after = match self.functions.entry(name.clone()).or_insert(None) {
            None => Some(self.dice.percent(50)),
            Some(true) => Some(false),
            Some(false) => self.dice.percent(50).then_some(true),
        };
        Open::Function { name, after }
    }

    fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("{}-{}", self.account, self.requests)
    }
}

impl Held {
    fn made(made: &Value) -> Held {
        let id = made["id"].as_str().expect("an id").to_owned();
        Held {
            id,
            view: plain(&made["key"]),
            tokens: vec![made["token"].as_str().map(str::to_owned)],
            revoked: BTreeSet::new(),
            retired: BTreeSet::new(),
            disabled: false,
            deleted: false,
            last_action: "create",
        }
    }

    /// Takes over what an answer shows, which must be what was asked.
    fn apply(&mut self, step: &Step, answer: &Value) {
        let view = plain(if matches!(step, Step::Rotate { .. }) { &answer["key"] } else { answer });
        let revision = |view: &Value| view["revision"].as_u64().expect("a revision");
        assert_eq!(revision(&view), revision(&self.view) + 1, "{step:?}: {view}");
        self.last_action = match step {
            Step::Describe(number) => {
                assert_eq!(view["description"], number.to_string());
                "edit"
            }
            Step::Rotate { overlap, .. } => {
                assert_eq!(view["secrets"].as_array().expect("secrets").len(), self.tokens.len() + 1);
                // It takes the place of the newest that is not revoked.
                let replaced = (1..=self.tokens.len()).rev().find(|version| !self.revoked.contains(version));
                self.retired.extend(replaced.filter(|_| !overlap));
                self.tokens.push(answer["token"].as_str().map(str::to_owned));
                "rotate"
            }
            Step::Revoke(version) => {
                assert!(view["secrets"][version - 1]["revoked_at"].is_string(), "{view}");
                self.revoked.insert(*version);
                "revoke"
            }
            Step::Disable | Step::Enable => {
                self.disabled = matches!(step, Step::Disable);
                assert_eq!(view["enabled"], !self.disabled);
                if self.disabled { "disable" } else { "enable" }
            }
            Step::Delete | Step::Undelete => {
                self.deleted = matches!(step, Step::Delete);
                assert_eq!(view["deleted_at"].is_string(), self.deleted);
                if self.deleted { "delete" } else { "undelete" }
            }
        };
        self.view = view;
    }

    /// Each token that is known, with what a verify of it must say.
    fn verdicts(&self) -> Vec<(String, Verdict)> {
        let verdict = |version: usize| match () {
            () if self.deleted => Verdict::Deleted,
            () if self.revoked.contains(&version) => Verdict::Revoked,
            () if self.retired.contains(&version) => Verdict::Retired,
            () if self.disabled => Verdict::Disabled,
            () => Verdict::Ok,
        };
        (1..).zip(&self.tokens).filter_map(|(version, token)| Some((token.clone()?, verdict(version)))).collect()
    }
}

impl Step {
    fn body(&self) -> Value {
        match self {
            Step::Describe(number) => json!({ "description": number.to_string() }),
            Step::Rotate { overlap: true, request_id } => json!({ "overlap": "7d", "request_id": request_id }),
            Step::Rotate { overlap: false, request_id } => json!({ "request_id": request_id }),
            Step::Revoke(version) => json!({ "version": version }),
            Step::Disable | Step::Enable | Step::Delete | Step::Undelete => Value::Null,
        }
    }
}

fn path_of(id: &str, step: &Step) -> String {
    let verb = match step {
        Step::Describe(_) | Step::Delete => "",
        Step::Rotate { .. } => "/rotate",
        Step::Revoke(_) => "/revoke",
        Step::Disable => "/disable",
        Step::Enable => "/enable",
        Step::Undelete => "/undelete",
    };
    format!("/v1/keys/{id}{verb}")
}

fn request(token: &str) -> Request<'_> {
    Request { token: token.as_bytes(), function: FUNCTION, address: None }
}

/// A key as the daemon shows it, without what verifies change.
fn shown(admin: &mut Admin, id: &str) -> Option<Value> {
    let (status, view) = admin.ask("GET", &format!("/v1/keys/{id}"), &Value::Null).expect("a daemon that answers");
    (status == 200).then(|| plain(&view))
}

fn plain(view: &Value) -> Value {
    let mut view = view.clone();
    for secret in view["secrets"].as_array_mut().expect("secrets") {
        for field in ["last_used_at", "last_address", "last_country"] {
            secret.as_object_mut().expect("a secret").remove(field);
        }
    }
    view
}
