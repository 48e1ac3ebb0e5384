use crate::key::{Country, Grant, Network, Settings};

/// Entries of lists to add and to take away. Applied to a key that has what is taken away, it leaves no list empty that was not: an empty
/// list of networks or countries would allow all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Grants to add.
    pub add_grants: Vec<Grant>,
    /// Grants to take away.
    pub remove_grants: Vec<Grant>,
    /// Networks to add.
    pub add_networks: Vec<Network>,
    /// Networks to take away.
    pub remove_networks: Vec<Network>,
    /// Countries to add.
    pub add_countries: Vec<Country>,
    /// Countries to take away.
    pub remove_countries: Vec<Country>,
}

impl Edit {
    /// The flags of `doorward edit` that do this.
    pub(super) fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        add(&mut flags, "--remove-grant", &self.remove_grants);
        add(&mut flags, "--add-grant", &self.add_grants);
        add(&mut flags, "--remove-network", &self.remove_networks);
        add(&mut flags, "--add-network", &self.add_networks);
        add(&mut flags, "--remove-country", &self.remove_countries.iter().map(Country::as_str).collect::<Vec<_>>());
        add(&mut flags, "--add-country", &self.add_countries.iter().map(Country::as_str).collect::<Vec<_>>());
        flags
    }

    /// What the settings are afterwards.
    pub fn apply(&self, settings: &mut Settings) {
        change(&mut settings.grants, &self.add_grants, &self.remove_grants);
        change(&mut settings.networks, &self.add_networks, &self.remove_networks);
        change(&mut settings.countries, &self.add_countries, &self.remove_countries);
    }
}

/// One flag with its values after a comma each; joined to it, since a name may begin with a dash.
fn add<T: ToString>(flags: &mut Vec<String>, flag: &str, values: &[T]) {
    if !values.is_empty() {
        let values: Vec<String> = values.iter().map(T::to_string).collect();
        flags.push(format!("{flag}={}", values.join(",")));
    }
}

fn change<T: Clone + Ord>(list: &mut Vec<T>, add: &[T], remove: &[T]) {
    list.retain(|entry| !remove.contains(entry));
    list.extend_from_slice(add);
    list.sort();
    list.dedup();
}
