use super::args::traffic::{Country, Denials};
use super::exit::{Exit, Failure};
use super::http::{Admin, escaped, with_query};
use super::screen::{Hue, Screen, relative};
use super::table::{Grid, field};
use super::unusual::NOBODY;
use crate::admin::wire::{CountryView, DenialList, DenialView};

/// Columns of a terminal that has room for everything.
const WIDE: usize = 110;
/// Columns below which a table would break every cell.
const NARROW: usize = 72;

/// `denials`
pub(crate) fn denials(admin: &Admin, screen: &Screen, arguments: &Denials) -> Result<Exit, Failure> {
    let list: DenialList = admin.get(&with_query("/v1/denials", &[("limit", Some(arguments.limit.to_string()))]))?;
    screen.show(&list, || {
        if list.denials.is_empty() && screen.terminal {
            return "Nothing was denied lately.\n".to_owned();
        }
        if screen.terminal && screen.width < NARROW {
            return list.denials.iter().map(|denial| narrow(screen, denial)).collect();
        }
        let mut grid = Grid::new(&["TIME", "VERDICT", "KEY", "SECRET", "FUNCTION", "ADDRESS", "COUNTRY"]).right("SECRET");
        grid = grid.wide_only("SECRET", WIDE).wide_only("COUNTRY", WIDE).at_least("VERDICT", 19).at_least("TIME", 14);
        for denial in &list.denials {
            let key = whose(denial);
            grid.row(vec![
                // On a narrow terminal one line a denial matters more than the date: they are the latest.
                if screen.terminal && screen.width < WIDE { relative(denial.at, screen.now) } else { screen.moment(denial.at) }.into(),
                field(&denial.verdict, Hue::Bad),
                key.into(),
                denial.version.map(|version| version.to_string()).unwrap_or_default().into(),
                denial.function.as_str().into(),
                denial.address.map(|address| address.to_string()).unwrap_or_default().into(),
                denial.country.map(|country| country.to_string()).unwrap_or_default().into(),
            ]);
        }
        grid.render(screen)
    })?;
    Ok(Exit::Ok)
}

/// Of which key, as far as that is known.
fn whose(denial: &DenialView) -> String {
    denial.key.clone().or_else(|| denial.key_id.map(|id| id.to_string())).unwrap_or_else(|| NOBODY.to_owned())
}

/// A denial in lines of its own: when and why, and below it whose, what and from where.
fn narrow(screen: &Screen, denial: &DenialView) -> String {
    let mut text = format!("{}  {}\n", screen.paint(&denial.verdict, Hue::Bad), relative(denial.at, screen.now));
    let from = denial.address.map(|address| format!("from {address}")).unwrap_or_default();
    for line in [whose(denial), denial.function.clone(), from].into_iter().filter(|line| !line.is_empty()) {
        text.push_str(&format!("  {}\n", console::truncate_str(&line, screen.width.saturating_sub(2), "…")));
    }
    text
}

/// `country`
pub(crate) fn country(admin: &Admin, screen: &Screen, arguments: &Country) -> Result<Exit, Failure> {
    let view: CountryView = admin.get(&format!("/v1/country/{}", escaped(&arguments.address.to_string())))?;
    screen.show(&view, || match (view.country, view.database, screen.terminal) {
        (Some(country), ..) => format!("{country}\n"),
        (None, _, false) => "unknown\n".to_owned(),
        (None, true, true) => format!("unknown: the database does not place {}\n", view.address),
        (None, false, true) => "unknown: no country database is loaded\n".to_owned(),
    })?;
    Ok(Exit::Ok)
}
