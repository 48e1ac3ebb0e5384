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

/// Not a test of speed, but what `docs/unusual.md` measures: `DOORWARD_KEYS=100000 cargo test --release --lib a_month_of_many_keys -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes; run it by name"]
fn a_month_of_many_keys() {
    let keys: u32 = std::env::var("DOORWARD_KEYS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let served = Served::start();
    let (store, now) = (served.store(), served.now());
    let ids: Vec<KeyId> = (0..keys)
        .map(|number| {
            let made = served.post("/v1/keys", &format!(r#"{{"account":"acme","name":"k{number}"}}"#), 201);
            made["id"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    for hours in (1..=29 * 24).rev() {
        let rows = ids.iter().map(|id| counted(*id, Instant(now.0 - hours * HOUR_MS), 10, b"DE", 1)).collect();
        let covered = Some((Instant(now.0 - hours * HOUR_MS), Instant(now.0 - (hours - 1) * HOUR_MS)));
        store.write_usage(&UsageBatch { rows, covered, ..UsageBatch::default() }, false).unwrap();
        while store.roll_usage(Instant(now.0 - (hours - 1) * HOUR_MS)).unwrap() {}
    }
    let resident =
        || std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned();
    let (begun, before) = (std::time::Instant::now(), resident());
    let view = served.get("/v1/unusual");
    println!("{} keys in {:?}; {before} before, {} after", view["keys"], begun.elapsed(), resident());
    let begun = std::time::Instant::now();
    let view = served.get("/v1/advise?limit=100000");
    println!("advise: {} pieces on {} keys in {:?}; {}", view["total"], view["keys"], begun.elapsed(), resident());
}
