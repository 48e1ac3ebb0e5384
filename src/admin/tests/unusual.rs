//! A month of usage, written as the flush writes it, judged through the store.

use serde_json::Value;

use super::Served;
use crate::key::{Country, FunctionId, Instant, KeyId, Verdict};
use crate::store::{Counted, Store, UsageBatch};

const HOUR_MS: i64 = 3_600_000;

fn counted(key: KeyId, at: Instant, count: u64, country: &[u8; 2], network: u8) -> Counted {
    Counted {
        key,
        minute: (at.0 / 60_000) as u32,
        version: 1,
        function: FunctionId::FIRST,
        verdict: Verdict::Ok,
        country: Some(Country(*country)),
        count,
        last_at: at,
        last_address: Some(format!("10.0.{network}.1").parse().unwrap()),
        missed_networks: false,
    }
}

/// So many requests in each hour of the last days, from one country and network.
fn month(store: &Store, key: KeyId, now: Instant, days: i64, count: u64) {
    let rows = (1..=days * 24).rev().map(|hours| counted(key, Instant(now.0 - hours * HOUR_MS), count, b"DE", 1));
    let covered = Some((Instant(now.0 - days * 24 * HOUR_MS), now));
    store.write_usage(&UsageBatch { rows: rows.collect(), covered, ..UsageBatch::default() }, false).unwrap();
    while store.roll_usage(now).unwrap() {}
}

fn kinds(view: &Value) -> Vec<(String, String)> {
    let findings = view["findings"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    findings.map(|finding| (text(&finding["key"]), text(&finding["kind"]))).collect()
}

#[test]
fn a_month_is_read_and_judged_key_by_key() {
    let served = Served::start();
    let id = |name: &str| {
        let made = served.post("/v1/keys", &format!(r#"{{"account":"acme","name":"{name}"}}"#), 201);
        made["id"].as_str().unwrap().parse::<KeyId>().unwrap()
    };
    let (calm, stolen, young) = (id("calm"), id("stolen"), id("young"));
    let (store, now) = (served.store(), served.now());
    month(store, calm, now, 30, 100);
    month(store, stolen, now, 30, 100);
    month(store, young, now, 3, 100);
    let pair = |key: &str, kind: &str| (key.to_owned(), kind.to_owned());
    let calm_view = served.get("/v1/unusual");
    assert_eq!(kinds(&calm_view), []);
    assert_eq!((calm_view["keys"].as_u64(), calm_view["too_young"]["count"].as_u64()), (Some(3), Some(1)));
    assert_eq!(calm_view["too_young"]["keys"][0]["key"], "acme/young");

    let at = |hours: i64| Instant(now.0 - hours * HOUR_MS);
    let mut rows = vec![counted(stolen, at(3), 5_000, b"BR", 2), counted(young, at(3), 50_000, b"BR", 2)];
    rows.extend((10..30).map(|network| counted(stolen, Instant(at(2).0 + i64::from(network)), 1, b"DE", network)));
    store.write_usage(&UsageBatch { rows, ..UsageBatch::default() }, false).unwrap();
    let found = kinds(&served.get("/v1/unusual"));
    let all = ["surge", "new_country", "new_network", "many_networks"].map(|kind| pair("acme/stolen", kind));
    assert!(found.len() == 4 && all.iter().all(|one| found.contains(one)), "{found:?}");
    assert_eq!(kinds(&served.get("/v1/unusual?key=acme%2Fcalm")), []);
    assert_eq!(kinds(&served.get("/v1/unusual?account=acme")).len(), 4);
    assert_eq!(kinds(&served.get("/v1/unusual?severity=critical&limit=1")).len(), 1);
    // What is rolled up tells the same.
    while store.roll_usage(now).unwrap() {}
    assert_eq!(kinds(&served.get("/v1/unusual")).len(), 4);
}

/// Whoever goes on with the token of a deleted key is told of: its denials are counted under the key, which was left out.
#[test]
fn a_deleted_key_that_is_still_presented_is_told_by_its_denials_alone() {
    let served = Served::start();
    let id =
        |name: &str| served.post("/v1/keys", &format!(r#"{{"account":"acme","name":"{name}"}}"#), 201)["id"].as_str().unwrap().to_owned();
    let (quiet, loud) = (id("quiet"), id("loud"));
    let (store, now) = (served.store(), served.now());
    for name in [&quiet, &loud] {
        month(store, name.parse().unwrap(), Instant(now.0 - 2 * 24 * HOUR_MS), 28, 100);
        assert_eq!(served.ask("DELETE", &format!("/v1/keys/{name}"), "").status, 200);
    }
    let covered = Some((Instant(now.0 - 3 * 24 * HOUR_MS), now));
    store.write_usage(&UsageBatch { covered, ..UsageBatch::default() }, false).unwrap();
    assert_eq!(kinds(&served.get("/v1/unusual?since=3d")), [], "they were deleted, and are used no more");
    let denied = Counted { verdict: Verdict::Deleted, ..counted(loud.parse().unwrap(), Instant(now.0 - 3 * HOUR_MS), 40, b"BR", 9) };
    store.write_usage(&UsageBatch { rows: vec![denied], ..UsageBatch::default() }, false).unwrap();
    let view = served.get("/v1/unusual");
    assert_eq!(kinds(&view), [("acme/loud".to_owned(), "denials".to_owned())], "{view}");
    assert_eq!(
        view["findings"][0]["command"],
        format!("doorward usage {loud} --by function,verdict,hour"),
        "its name may be another's by now"
    );
    assert_eq!(view["keys"], 0);
    assert_eq!(served.get(&format!("/v1/usage?key={loud}&by=verdict"))["rows"][0]["verdict"], "deleted");
}

/// Not a test of speed, but what `docs/performance.md` measures: `DOORWARD_KEYS=100000 cargo test --release --lib a_month_of_many_keys -- --ignored --nocapture`. With
/// `DOORWARD_STORE=DIR` the store is filled there once and stays, so that it can be asked again.
#[test]
#[ignore = "takes minutes; run it by name"]
fn a_month_of_many_keys() {
    let keys: usize = std::env::var("DOORWARD_KEYS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let served = std::env::var_os("DOORWARD_STORE").map_or_else(Served::start, |directory| Served::on(directory.into(), None));
    if served.store().keys(None).next().is_none() {
        fill(&served, keys);
    }
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().nth(1).unwrap().to_owned();
        format!("{} kB resident, {} kB at most", field("VmRSS"), field("VmHWM"))
    };
    println!("before: {}", resident());
    for path in ["/v1/unusual", "/v1/advise?limit=1"] {
        let mut took: Vec<f64> = Vec::new();
        for _ in 0..3 {
            let begun = std::time::Instant::now();
            let view = served.get(path);
            assert_eq!(view["keys"], keys, "all of them were looked at");
            took.push(begun.elapsed().as_secs_f64());
        }
        took.sort_by(f64::total_cmp);
        println!("{path} of {keys} keys: {:.2} s ({:.2} – {:.2}); {}", took[1], took[0], took[2], resident());
    }
}

/// Keys that are used in each hour of 29 days, written as the flush writes them and added up as time goes on.
fn fill(served: &Served, keys: usize) {
    let lines: String = (0..keys).map(|number| format!("{{\"account\":\"acme\",\"name\":\"k{number}\"}}\n")).collect();
    let made = served.post("/v1/import?generate=true", &lines, 200);
    assert_eq!(made["imported"], keys);
    let (store, now) = (served.store(), served.now());
    let mut ids: Vec<KeyId> = store.keys(None).map(|key| key.unwrap().id).collect();
    ids.sort_by_key(|id| (id.bucket(), *id));
    for hours in (1..=29 * 24).rev() {
        let (begin, end) = (Instant(now.0 - hours * HOUR_MS), Instant(now.0 - (hours - 1) * HOUR_MS));
        for ids in ids.chunks(16_384) {
            let rows = ids.iter().map(|id| counted(*id, begin, 10, b"DE", 1)).collect();
            store.write_usage(&UsageBatch { rows, covered: Some((begin, end)), ..UsageBatch::default() }, false).unwrap();
        }
        while store.roll_usage(end).unwrap() {}
    }
}
