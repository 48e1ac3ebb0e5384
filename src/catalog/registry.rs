use ahash::AHashMap;

use super::change::Reply;
use super::difference;
use super::draft::DraftFunction;
use super::error::ChangeError;
use super::step::Step;
use crate::key::history::{Action, Subject};
use crate::key::limits::{self, LimitError};
use crate::key::{Function, FunctionId, FunctionName, Grant};

/// Every function that is or was registered: numbers are given in turn, once, and a name that comes back gets its own again.
#[derive(Default)]
pub(super) struct Registry(AHashMap<FunctionName, DraftFunction>);

impl Registry {
    pub(super) fn get(&self, name: &FunctionName) -> Option<&DraftFunction> {
        self.0.get(name)
    }

    pub(super) fn put(&mut self, function: DraftFunction) {
        self.0.insert(function.function.name.clone(), function);
    }

    pub(super) fn ever(&self) -> usize {
        self.0.len()
    }

    pub(super) fn registered(&self) -> Vec<Function> {
        self.0.values().filter(|function| function.removed_at.is_none()).map(|function| function.function.clone()).collect()
    }
}

impl Step<'_> {
    pub(super) fn add_function(&mut self, name: &FunctionName, restricted: bool) -> Result<Reply, ChangeError> {
        let number = match self.function_ever(name) {
            Some(known) if known.removed_at.is_none() => return Err(ChangeError::FunctionExists(name.clone())),
            Some(known) => known.function.id,
            None => self.next_number()?,
        };
        let function = Function { id: number, name: name.clone(), restricted, created_at: self.now() };
        self.enter_function(Action::FunctionAdd, None, Some(&function));
        self.draft.functions.insert(name.clone(), DraftFunction { function: function.clone(), removed_at: None });
        Ok(Reply::Function { function, keys: Vec::new() })
    }

    fn next_number(&self) -> Result<FunctionId, ChangeError> {
        let ever = self.functions_ever();
        if ever >= limits::FUNCTIONS {
            let limit = format!("{} functions ever registered", limits::FUNCTIONS);
            return Err(LimitError { field: "functions", value: (ever + 1).to_string(), limit }.into());
        }
        Ok(FunctionId(FunctionId::FIRST.0 + ever as u16))
    }

    pub(super) fn restrict_function(&mut self, name: &FunctionName, restricted: bool) -> Result<Reply, ChangeError> {
        let before = self.registered(name)?;
        let after = Function { restricted, ..before.clone() };
        if before != after {
            let action = if restricted { Action::FunctionRestrict } else { Action::FunctionUnrestrict };
            self.enter_function(action, Some(&before), Some(&after));
            self.draft.functions.insert(name.clone(), DraftFunction { function: after.clone(), removed_at: None });
        }
        Ok(Reply::Function { function: after, keys: Vec::new() })
    }

    /// Removes a function, and the grants by its name with it: those of deleted keys too, which may be undeleted.
    pub(super) fn remove_function(&mut self, name: &FunctionName, with_grants: bool) -> Result<Reply, ChangeError> {
        let function = self.registered(name)?;
        if function.restricted {
            return Err(ChangeError::FunctionRestricted(name.clone()));
        }
        let grant = Grant::Exact(name.clone());
        let holders = self.collect(self.ground.store.keys(None), |key| key.settings.grants.contains(&grant))?;
        if let Some(example) = holders.first().filter(|_| !with_grants) {
            return Err(ChangeError::FunctionGranted { function: name.clone(), keys: holders.len(), example: example.id });
        }
        let keys = holders.iter().map(|key| key.id).collect();
        for before in holders {
            let mut after = before.clone();
            after.settings.grants.retain(|kept| *kept != grant);
            self.put(Action::Edit, Some(before), after);
        }
        self.enter_function(Action::FunctionRemove, Some(&function), None);
        let removed_at = Some(self.now());
        self.draft.functions.insert(name.clone(), DraftFunction { function: function.clone(), removed_at });
        Ok(Reply::Function { function, keys })
    }

    fn registered(&self, name: &FunctionName) -> Result<Function, ChangeError> {
        let known = self.function_ever(name).filter(|function| function.removed_at.is_none());
        known.map(|known| known.function.clone()).ok_or_else(|| ChangeError::NoFunction(name.clone()))
    }

    fn enter_function(&mut self, action: Action, before: Option<&Function>, after: Option<&Function>) {
        let Some(function) = after.or(before) else { return };
        let subject = Subject::Function(function.name.clone());
        self.enter(action, subject, difference::of_function(before, after));
    }
}
