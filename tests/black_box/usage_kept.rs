//! A time of which minutes, or hours, are not kept any more: reports tell it by the units that are left, and not as nothing.

use std::thread;
use std::time::Duration;

use doorward::key::Instant;
use serde_json::Value;

use crate::clock_jumps::House;
use crate::daemon::{Daemon, verdict};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The rows of a report that have counts.
fn counted(view: &Value) -> Vec<(String, u64)> {
    let rows = view["rows"].as_array().expect("rows").iter();
    let row = |row: &Value| (row["at"].as_str().unwrap_or_default().to_owned(), row["count"].as_u64().expect("a count"));
    rows.map(row).filter(|(_, count)| *count > 0).collect()
}

/// Whether nothing is known of this moment.
fn is_unknown(view: &Value, at: Instant) -> bool {
    let moment = |value: &Value| value.as_str().expect("a moment").parse::<Instant>().expect("a moment");
    let holds = |interval: &Value| moment(&interval["since"]) <= at && at < moment(&interval["until"]);
    view["unknown"].as_array().expect("intervals").iter().any(holds)
}

/// Minutes are kept for two hours, hours for two days. It was verified five times at noon four days ago, seven times at half an hour past, 160 minutes ago, and eleven times
/// ten minutes past the hour, now.
#[test]
fn a_report_is_by_units_in_which_its_time_is_kept() {
    let real = doorward::clock::wall().0;
    let now = (real - 10 * MINUTE).div_euclid(HOUR) * HOUR + 10 * MINUTE;
    let (recent, old) = (now - 160 * MINUTE, now.div_euclid(DAY) * DAY - 4 * DAY + 12 * HOUR);
    let mut house = House::begun(old - real, "[usage]\nkeep_minutes = \"2h\"\nkeep_hours = \"2d\"\n");
    let key = house.daemon.create("acme/web", &["--grant", "f"]);
    for (at, times) in [(old, 5), (recent, 7), (now, 11)] {
        if at != old {
            house.restart_at(at - real);
        }
        let mut client = house.daemon.client();
        (0..times).for_each(|_| _ = verdict(&mut client, &key.token, "f", None));
    }
    let (end, moment) = (Instant(now + 5 * MINUTE).to_string(), |at: i64| Instant(at).to_string());
    let report =
        |daemon: &Daemon, since: i64, flags: &[&str]| daemon.run(&[&["usage", "--since", &moment(since), "--until", &end], flags].concat());
    let json = |daemon: &Daemon, since: i64, flags: &[&str]| report(daemon, since, &[flags, &["--json"]].concat()).json();
    let (brief, long) = (recent - 15 * MINUTE, now.div_euclid(DAY) * DAY - 5 * DAY);
    let total = |daemon: &Daemon, since: i64, unit: &str| json(daemon, since, &["--by", unit])["total"].as_u64();
    let is_removed = |daemon: &Daemon| {
        let totals = [total(daemon, brief, "minute"), total(daemon, long, "hour"), total(daemon, long, "day")];
        totals == [Some(11), Some(18), Some(23)]
    };
    // It is added up in a few seconds; what is too old by then is looked for when the daemon starts, and each minute.
    for _ in 0..30 {
        if is_removed(&house.daemon) {
            break;
        }
        thread::sleep(Duration::from_secs(1));
        house.daemon.restart();
    }
    assert!(is_removed(&house.daemon), "{}", house.daemon.log());
    let report = |since: i64, flags: &[&str]| report(&house.daemon, since, flags);
    let json = |since: i64, flags: &[&str]| json(&house.daemon, since, flags);

    // By minutes nothing is known of the time that was counted in; by hours it is.
    let minutes = json(brief, &["--by", "minute"]);
    assert!(is_unknown(&minutes, Instant(recent)) && !is_unknown(&minutes, Instant(now)), "{minutes}");
    let hours = json(brief, &["--by", "hour"]);
    let whole = |at: i64, unit: i64| moment(at.div_euclid(unit) * unit);
    assert_eq!(counted(&hours), [(whole(recent, HOUR), 7), (whole(now, HOUR), 11)], "{hours}");
    assert!(!is_unknown(&hours, Instant(recent)) && is_unknown(&hours, Instant(recent + 10 * MINUTE)), "{hours}");
    let days = json(long, &["--by", "day"]);
    let of_day = |at: i64| days["rows"].as_array().expect("rows").iter().find(|row| row["at"] == whole(at, DAY))?["count"].as_u64();
    assert_eq!(of_day(old), Some(5), "{days}");
    assert!(!is_unknown(&days, Instant(old)) && is_unknown(&json(long, &["--by", "hour"]), Instant(old)), "{days}");

    // A page that would be by minutes is by hours, and what a script gets that would be by hours is by days: all that was counted is in them.
    let page = report(brief, &[]).stdout;
    assert!(page.contains("\ntotal: 18\n") && page.contains("\nHOUR\tVERIFIES\tDENIED\n"), "{page}");
    assert!(page.contains(&format!("\n{}\t7\t0\n", whole(recent, HOUR))), "{page}");
    assert!(report(now - HOUR, &[]).stdout.contains("\nMINUTE\tVERIFIES\tDENIED\n"), "all of this is kept by minutes");
    let (of_script, of_hours) = (json(long, &[]), json(brief, &[]));
    assert_eq!((&of_script["total"], &of_hours["total"]), (&23.into(), &18.into()));
    assert!(counted(&of_script).contains(&(whole(old, DAY), 5)), "{of_script}");
    assert_eq!(counted(&of_hours), [(whole(recent, HOUR), 7), (whole(now, HOUR), 11)], "{of_hours}");
    let csv = report(long, &["--csv"]);
    assert!(csv.stdout.contains(&format!("f,ok,{},5\r\n", whole(old, DAY))) && csv.stderr.starts_with("unknown: "), "{csv:?}");
}
