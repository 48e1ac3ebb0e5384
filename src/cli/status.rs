use super::exit::{Exit, Failure};
use super::http::Admin;
use super::screen::{Hue, Screen, counted, grouped, relative};
use super::table::card;
use crate::admin::wire::StatusView;

/// `status`
pub(crate) fn status(admin: &Admin, screen: &Screen) -> Result<Exit, Failure> {
    let status: StatusView = admin.get("/v1/status")?;
    screen.show(&status, || text(screen, &status))?;
    Ok(if status.health == "ok" { Exit::Ok } else { Exit::No })
}

/// Whether all is well first, then the figures that say so.
fn text(screen: &Screen, status: &StatusView) -> String {
    let mut text = String::new();
    if !screen.terminal {
        text.push_str(&format!("health: {}\n", status.health));
        status.problems.iter().for_each(|problem| text.push_str(&format!("problem: {problem}\n")));
    } else if status.health == "ok" {
        text.push_str(&format!("{}\n\n", screen.paint("✓ All is well", Hue::Good)));
    } else {
        text.push_str(&format!("{}\n", screen.paint(&format!("✗ {}", status.health), Hue::Bad)));
        status.problems.iter().for_each(|problem| text.push_str(&format!("  {}\n", screen.paint(problem, Hue::Bad))));
        text.push('\n');
    }
    let number = |number: u64| if screen.terminal { grouped(number) } else { number.to_string() };
    let since = |at| if screen.terminal { relative(at, screen.now) } else { format!("{at}") };
    let (keys, functions, verify) = (&status.keys, &status.functions, &status.verify);
    let verdicts = verdicts(screen, status);
    let database = status.country_db.as_ref().map_or_else(
        || "none: keys with countries are refused".to_owned(),
        |db| {
            let ranges = number(db.ranges);
            format!("{}, built {}, loaded {}, {ranges} ranges ({})", db.database_type, since(db.built_at), since(db.loaded_at), db.path)
        },
    );
    let need = counted(status.store.other_pepper_secrets, "secret");
    let previous = status.store.previous_pepper_id.as_ref().map(|id| format!(", previous {id}, of {need}")).unwrap_or_default();
    let lines = [
        ("daemon", format!("version {}, pid {}, started {}", status.version, status.pid, since(status.started_at))),
        ("keys", format!("{}, of these {} disabled; {} deleted", number(keys.keys), number(keys.disabled), number(keys.deleted))),
        ("secrets", format!("{} in an index of {}", number(keys.secrets), bytes(keys.index_bytes))),
        (
            "functions",
            format!(
                "{}, of these {} restricted; strict mode {}",
                number(functions.registered),
                number(functions.restricted),
                if functions.strict { "on" } else { "off" }
            ),
        ),
        (
            "connections",
            format!(
                "{} of {}; {} since the start, {} refused, {} protocol errors",
                number(verify.connections),
                number(verify.max_connections),
                number(verify.accepted),
                number(verify.refused),
                number(verify.protocol_errors)
            ),
        ),
        (
            "admin",
            format!(
                "{} of {} connections; {} requests refused",
                number(status.admin.connections),
                number(status.admin.max_connections),
                number(status.admin.forbidden)
            ),
        ),
        ("verifies", format!("{} per second; {} since the start", number(verify.per_second), number(verify.verifies))),
        ("verdicts", verdicts),
        ("countries", database),
        ("store", store(status, &number)),
        ("pepper", format!("{}{previous}", status.store.pepper_id)),
        ("flush", flush(screen, status, &number)),
    ];
    text.push_str(&card(screen, &lines));
    text
}

fn verdicts(screen: &Screen, status: &StatusView) -> String {
    let mut counts: Vec<(&String, u64)> =
        status.verify.verdicts.iter().map(|(name, count)| (name, *count)).filter(|(_, n)| *n > 0).collect();
    counts.sort_by_key(|(name, count)| (name.as_str() != "ok", std::cmp::Reverse(*count)));
    let said: Vec<String> = counts
        .into_iter()
        .map(|(name, count)| {
            let hue = if name == "ok" { Hue::Good } else { Hue::Plain };
            if screen.terminal { format!("{} {}", screen.paint(name, hue), grouped(count)) } else { format!("{name}={count}") }
        })
        .collect();
    if said.is_empty() { "none yet".to_owned() } else { said.join(if screen.terminal { ", " } else { " " }) }
}

fn store(status: &StatusView, number: &impl Fn(u64) -> String) -> String {
    let store = &status.store;
    let refusing = store.refusing_changes.as_ref().map(|reason| format!("; changes are refused: {reason}")).unwrap_or_default();
    format!("{} in {}, {} changes{refusing}", bytes(store.bytes), store.path, number(store.sequence))
}

fn flush(screen: &Screen, status: &StatusView, number: &impl Fn(u64) -> String) -> String {
    let flush = &status.flush;
    let last = flush.last_at.map_or_else(
        || "none yet".to_owned(),
        |at| {
            let when = if screen.terminal { relative(at, screen.now) } else { at.to_string() };
            format!("last {when}, {} rows in {:.1} ms", number(flush.last_rows), flush.last_us as f64 / 1_000.0)
        },
    );
    let figures = [("failed", flush.failures), ("folded", flush.folded), ("lost", flush.lost)];
    let trouble: String = figures.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("; {} {name}", number(*n))).collect();
    // Up to an interval is no lag, and a report does not end with the moment.
    let lag = if flush.lag_ms > 2 * flush.interval_ms + 1_000 {
        format!("; {:.1} s behind, with {} rows to come", flush.lag_ms as f64 / 1_000.0, number(flush.rows))
    } else {
        String::new()
    };
    format!("every {} ms; {last}{lag}{trouble}", flush.interval_ms)
}

/// Bytes in a unit that leaves at most four digits.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while amount >= 1_024.0 && unit + 1 < UNITS.len() {
        amount /= 1_024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{AdminStatus, FlushStatus, FunctionCounts, KeyCounts, StoreStatus, VerifyStatus};
    use crate::key::Instant;

    fn example() -> StatusView {
        StatusView {
            health: "degraded".into(),
            problems: vec!["the country database is 90 days old".into()],
            version: "0.1.0".into(),
            pid: 7,
            started_at: Instant(0),
            keys: KeyCounts { keys: 1_000_000, disabled: 3, deleted: 1, secrets: 1_000_001, index_bytes: 150 << 20 },
            functions: FunctionCounts { registered: 12, restricted: 1, strict: true },
            verify: VerifyStatus { verdicts: [("ok".to_owned(), 12_345), ("expired".to_owned(), 0)].into(), ..VerifyStatus::default() },
            country_db: None,
            store: StoreStatus {
                path: "/var/lib/doorward".into(),
                sequence: 9,
                refusing_changes: None,
                in_memory_only: 0,
                bytes: 1_000,
                pepper_id: "00112233aabbccdd".into(),
                previous_pepper_id: None,
                other_pepper_secrets: 0,
            },
            flush: FlushStatus { interval_ms: 1_000, lost: 2, ..FlushStatus::default() },
            admin: AdminStatus::default(),
        }
    }

    #[test]
    fn what_is_wrong_stands_first_and_one_screen_holds_it() {
        let screen = Screen { terminal: true, json: false, width: 80, colour: false, now: Instant(60_000) };
        let text = text(&screen, &example());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("degraded") && lines[1].contains("90 days old"), "{text}");
        assert!(lines.len() <= 24 && lines.iter().all(|line| console::measure_text_width(line) <= 80), "{text}");
        assert!(text.contains("150.0 MiB") && text.contains("2 lost") && !text.contains("expired"), "{text}");
    }

    #[test]
    fn a_pipe_gets_plain_figures() {
        let screen = Screen { terminal: false, json: false, width: 80, colour: false, now: Instant(0) };
        let text = text(&screen, &example());
        assert!(text.starts_with("health: degraded\nproblem: the country") && text.contains("\nverdicts: ok=12345\n"), "{text}");
    }
}
