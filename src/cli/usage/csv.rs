//! A report as comma-separated values: RFC 4180, a header of the field names of `--json`.

use crate::admin::wire::{UsageRow, UsageView};

/// The fields that a dimension is told by.
fn fields(dimension: &str, local: bool) -> &'static [&'static str] {
    match dimension {
        "function" => &["function"],
        "verdict" => &["verdict"],
        "secret" => &["version"],
        "country" => &["country"],
        "key" => &["key_id", "key"],
        _ if local => &["at", "local"],
        _ => &["at"],
    }
}

/// The report by these dimensions. Periods of which nothing is known have an empty count.
pub(super) fn csv(view: &UsageView, by: &[&str], local: bool) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in by.iter().flat_map(|dimension| fields(dimension, local)).chain(&["count"]) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    if view.rows.iter().any(|row| row.denied.is_some()) {
        names.push("denied");
    }
    let mut lines: Vec<Vec<String>> = view.rows.iter().map(|row| cells(row, &names)).collect();
    for period in &view.unknown_periods {
        let row = UsageRow { at: Some(period.at), local: period.local.clone(), ..UsageRow::default() };
        let emptied = |(cell, name): (String, &&str)| if *name == "count" { String::new() } else { cell };
        lines.push(cells(&row, &names).into_iter().zip(&names).map(emptied).collect());
    }
    if !view.unknown_periods.is_empty() {
        // There is no other dimension then, and RFC 3339 in UTC sorts as time does.
        lines.sort();
    }
    let mut text = names.join(",");
    text.push_str("\r\n");
    for line in lines {
        text.push_str(&line.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(","));
        text.push_str("\r\n");
    }
    text
}

fn cells(row: &UsageRow, names: &[&str]) -> Vec<String> {
    let cell = |name: &&str| match *name {
        "function" => row.function.clone(),
        "verdict" => row.verdict.clone(),
        "version" => row.version.map(|version| version.to_string()),
        "country" => row.country.clone(),
        "key_id" => row.key_id.map(|id| id.to_string()),
        "key" => row.key.clone(),
        "at" => row.at.map(|at| at.to_string()),
        "local" => row.local.clone(),
        "denied" => row.denied.map(|denied| denied.to_string()),
        _ => Some(row.count.to_string()),
    };
    names.iter().map(|name| cell(name).unwrap_or_default()).collect()
}

/// A cell. What a spreadsheet would take for a formula gets an apostrophe before it, since names are chosen by others than those who open the file.
fn quoted(cell: &str) -> String {
    let formula =
        cell.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) || cell.starts_with(['\t', '\r', '\n', '|', '%']);
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n', ';', '\t']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::Period;
    use crate::key::Instant;

    fn view(rows: Vec<UsageRow>, unknown_periods: Vec<Period>) -> UsageView {
        UsageView { rows, unknown_periods, ..super::super::tests::nothing() }
    }

    #[test]
    fn names_are_neither_formulas_nor_broken_rows() {
        for (name, cell) in [
            ("acme/web", "acme/web"),
            ("a,b/\"c\"", "\"a,b/\"\"c\"\"\""),
            ("=cmd|' /C calc'!A0/x", "'=cmd|' /C calc'!A0/x"),
            ("+1/x", "'+1/x"),
            ("-1/x", "'-1/x"),
            ("@SUM(A1)/x", "'@SUM(A1)/x"),
            (" =1,2/x", "\"' =1,2/x\""),
            ("＝1/x", "'＝1/x"),
            ("a;b/x", "\"a;b/x\""),
            ("(others)", "(others)"),
        ] {
            let row = UsageRow { key: Some(name.into()), count: 3, denied: Some(1), ..UsageRow::default() };
            assert_eq!(csv(&view(vec![row], vec![]), &["key"], false), format!("key_id,key,count,denied\r\n,{cell},3,1\r\n"));
        }
    }

    #[test]
    fn an_unknown_period_has_an_empty_count_and_an_empty_one_zero() {
        let at = |hour: i64| Instant(hour * 3_600_000);
        let row = |hour, count| UsageRow { at: Some(at(hour)), count, denied: Some(0), ..UsageRow::default() };
        let text = csv(&view(vec![row(1, 0), row(3, 7)], vec![Period { at: at(2), local: None }]), &["hour"], false);
        let lines = ["at,count,denied", "1970-01-01T01:00:00Z,0,0", "1970-01-01T02:00:00Z,,", "1970-01-01T03:00:00Z,7,0", ""];
        assert_eq!(text, lines.join("\r\n"));
        assert!(csv(&view(vec![], vec![]), &["hour", "key"], true).starts_with("at,local,key_id,key,count\r\n"));
    }
}
