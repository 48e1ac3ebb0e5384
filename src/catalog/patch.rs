use std::fmt::Display;

use super::change::Patch;
use super::error::ChangeError;
use crate::key::{KeyId, Settings};

/// Applies a patch. Where it is for `many` keys, those that lack what it takes away are let be.
pub(super) fn apply(patch: &Patch, key: KeyId, settings: &mut Settings, many: bool) -> Result<(), ChangeError> {
    macro_rules! set {
        ($($field:ident),*) => { $(if let Some(value) = &patch.$field { settings.$field = value.clone(); })* };
    }
    set!(name, account, description, enabled, not_before, expires_at, grants, networks, countries, unknown_country, tags);
    let missing = |field, value: &dyn Display| match many {
        true => Ok(()),
        false => Err(ChangeError::NotThere { field, key, value: value.to_string() }),
    };
    edit_list(&mut settings.grants, &patch.add_grants, &patch.remove_grants, |value| missing("grants", value))?;
    edit_list(&mut settings.networks, &patch.add_networks, &patch.remove_networks, |value| missing("networks", value))?;
    edit_list(&mut settings.countries, &patch.add_countries, &patch.remove_countries, |value| missing("countries", value))?;
    settings.tags.extend(patch.add_tags.iter().map(|(name, value)| (name.clone(), value.clone())));
    for name in &patch.remove_tags {
        if settings.tags.remove(name).is_none() {
            missing("tags", name)?;
        }
    }
    settings.normalize()?;
    Ok(())
}

fn edit_list<T: Clone + PartialEq>(
    list: &mut Vec<T>,
    add: &[T],
    remove: &[T],
    missing: impl Fn(&T) -> Result<(), ChangeError>,
) -> Result<(), ChangeError> {
    list.extend_from_slice(add);
    for gone in remove {
        let before = list.len();
        list.retain(|kept| kept != gone);
        if list.len() == before {
            missing(gone)?;
        }
    }
    Ok(())
}
