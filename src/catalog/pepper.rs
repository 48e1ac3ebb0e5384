use ahash::AHashMap;

use super::CatalogError;
use crate::digest::Peppers;
use crate::key::Instant;
use crate::key::{Key, PepperId};
use crate::store::{PepperMarks, Store};

/// How many secrets that may still be good are of which pepper.
#[derive(Default)]
pub(super) struct PepperNeeds(AHashMap<PepperId, u64>);

impl PepperNeeds {
    pub(super) fn add(&mut self, key: &Key, now: Instant) {
        for secret in &key.secrets {
            if secret.revoked_at.is_none() && secret.retires_at.is_none_or(|at| now < at) {
                *self.0.entry(secret.pepper).or_default() += 1;
            }
        }
    }

    pub(super) fn join(&mut self, other: PepperNeeds) {
        for (pepper, secrets) in other.0 {
            *self.0.entry(pepper).or_default() += secrets;
        }
    }

    fn of(&self, pepper: PepperId) -> u64 {
        self.0.get(&pepper).copied().unwrap_or(0)
    }
}

/// Whether the store may be opened with these peppers, as far as their fingerprints tell; and what the store is to remember.
pub(super) fn check(store: &Store, peppers: &Peppers) -> Result<PepperMarks, CatalogError> {
    let current = peppers.current.fingerprint();
    let previous = peppers.previous.as_ref().map(|previous| previous.fingerprint());
    let unused = store.head()?.sequence == 0;
    match store.pepper_marks()? {
        Some(marks) if marks.current == current => Ok(marks),
        Some(marks) if Some(marks.current) == previous => Ok(PepperMarks { current, previous }),
        _ if unused => Ok(PepperMarks { current, previous: None }),
        Some(marks) => Err(CatalogError::WrongPepper { given: peppers.current.id(), stored: id_of(&marks.current) }),
        None => Err(CatalogError::NoPepperMarks),
    }
}

/// Refuses when secrets need a pepper that was not given; else makes the store remember, and forget a pepper that none needs.
pub(super) fn settle(store: &Store, peppers: &Peppers, mut marks: PepperMarks, needs: &PepperNeeds) -> Result<PepperMarks, CatalogError> {
    all_given(peppers, needs)?;
    marks.previous = marks.previous.filter(|previous| needs.of(id_of(previous)) > 0);
    if store.pepper_marks()? != Some(marks) {
        store.set_pepper_marks(&marks)?;
    }
    Ok(marks)
}

/// Refuses when secrets need a pepper that was not given.
pub(super) fn all_given(peppers: &Peppers, needs: &PepperNeeds) -> Result<(), CatalogError> {
    let given = [Some(peppers.current.id()), peppers.previous.as_ref().map(|previous| previous.id())];
    match needs.0.iter().find(|(pepper, _)| !given.contains(&Some(**pepper))) {
        Some((&pepper, &secrets)) => Err(CatalogError::PepperNeeded { pepper, secrets }),
        None => Ok(()),
    }
}

pub(super) fn id_of(fingerprint: &[u8; 32]) -> PepperId {
    PepperId(std::array::from_fn(|i| fingerprint[i]))
}
