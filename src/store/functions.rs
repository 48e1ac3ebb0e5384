use super::{Family, Store, StoreError, record};
use crate::key::{Function, Instant};
use crate::record::StoredFunction;

impl Store {
    /// The registered functions, by name.
    pub fn functions(&self) -> Result<Vec<Function>, StoreError> {
        let mut functions = self.functions_ever()?;
        functions.retain(|(_, removed_at)| removed_at.is_none());
        let mut functions: Vec<Function> = functions.into_iter().map(|(function, _)| function).collect();
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(functions)
    }

    /// Every function that was ever registered, by number, with the moment of its removal: names the numbers in usage.
    pub fn functions_ever(&self) -> Result<Vec<(Function, Option<Instant>)>, StoreError> {
        let mut functions = Vec::new();
        self.each_row(Family::Functions, &[], |row, value| {
            let stored: StoredFunction = record::decode(Family::Functions, row, value)?;
            functions.push((stored.function, stored.removed_at));
            Ok(())
        })?;
        Ok(functions)
    }
}
