use ahash::AHashMap;

use super::{CatalogError, Time};
use crate::digest::{Pepper, Peppers};
use crate::key::Instant;
use crate::key::{Key, PepperId};
use crate::store::{PepperMarks, Store};

/// How many secrets that may still be good are of which pepper.
#[derive(Default)]
pub(super) struct PepperNeeds(AHashMap<PepperId, Need>);

#[derive(Default, Clone, Copy)]
struct Need {
    now: u64,
    /// These and those that are good again where the wall clock turns out to have been ahead by mistake.
    perhaps: u64,
}

impl PepperNeeds {
    pub(super) fn add(&mut self, key: &Key, time: Time) {
        for secret in key.secrets.iter().filter(|secret| secret.revoked_at.is_none()) {
            let is_good = |at: Instant| secret.retires_at.is_none_or(|retires_at| at < retires_at);
            if is_good(time.floor) {
                let need = self.0.entry(secret.pepper).or_default();
                need.perhaps += 1;
                need.now += u64::from(is_good(time.now));
            }
        }
    }

    pub(super) fn join(&mut self, other: PepperNeeds) {
        for (pepper, secrets) in other.0 {
            let need = self.0.entry(pepper).or_default();
            *need = Need { now: need.now + secrets.now, perhaps: need.perhaps + secrets.perhaps };
        }
    }

    /// Secrets that may need this pepper once more.
    fn perhaps(&self, pepper: PepperId) -> u64 {
        self.0.get(&pepper).map_or(0, |need| need.perhaps)
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

/// Refuses when secrets need a pepper that was not given; else makes the store remember the previous one that they need, and forget one that none needs.
pub(super) fn settle(store: &Store, peppers: &Peppers, mut marks: PepperMarks, needs: &PepperNeeds) -> Result<PepperMarks, CatalogError> {
    all_given(peppers, needs)?;
    let given = peppers.previous.as_ref().map(Pepper::fingerprint);
    marks.previous = [given, marks.previous].into_iter().flatten().find(|previous| needs.perhaps(id_of(previous)) > 0);
    if store.pepper_marks()? != Some(marks) {
        store.set_pepper_marks(&marks)?;
    }
    Ok(marks)
}

/// Refuses when secrets need a pepper that was not given.
pub(super) fn all_given(peppers: &Peppers, needs: &PepperNeeds) -> Result<(), CatalogError> {
    let given = [Some(peppers.current.id()), peppers.previous.as_ref().map(|previous| previous.id())];
    match needs.0.iter().find(|(pepper, need)| need.now > 0 && !given.contains(&Some(**pepper))) {
        Some((&pepper, need)) => Err(CatalogError::PepperNeeded { pepper, secrets: need.now }),
        None => Ok(()),
    }
}

pub(super) fn id_of(fingerprint: &[u8; 32]) -> PepperId {
    PepperId(std::array::from_fn(|i| fingerprint[i]))
}
