//! The verdict, held against an independent model of the design over a million random pairs of a key and a request.
//!
//! `DOORWARD_MODEL_SEED` and `DOORWARD_MODEL_PAIRS` choose other ones.

mod cases;
mod dice;
mod model;
mod tokens;
mod world;

use doorward::key::{Network, Verdict};
use model::Wrong;
use world::World;

/// Pairs between two changes of the catalog and the keys.
const ROUND: u64 = 15_000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

#[test]
fn a_million_pairs_get_the_verdict_of_the_model() {
    let seed = number("DOORWARD_MODEL_SEED", 20_261_107);
    let pairs = number("DOORWARD_MODEL_PAIRS", 1_200_000);
    let mut world = World::new(seed);
    let mut seen = [0u64; 16];
    for pair in 1..=pairs {
        let case = world.case();
        let expected = model::verdict(&world.keys[case.key], case.secret, &case.request, &world.catalog, None);
        let verdict = world.verdict(&case);
        assert!(
            verdict == expected,
            "seed {seed}, pair {pair}: the library says {verdict}, the model {expected}\n{}",
            world.describe(&case)
        );
        seen[verdict as usize] += 1;
        if pair % ROUND == 0 {
            let secrets: usize = world.keys.iter().map(|key| key.secrets.len()).sum();
            assert_eq!(world.index.secrets(), secrets, "seed {seed}, pair {pair}");
            let strange = world.strange_digest();
            assert!(world.index.find(&strange, &world.index.pin()).is_none());
            world.change();
        }
    }
    let table: Vec<String> = Verdict::ALL.iter().zip(seen).map(|(verdict, times)| format!("{verdict} {times}")).collect();
    println!("seed {seed}: {}", table.join(", "));
    // Malformed and unknown are said of tokens that no key has.
    let rare = Verdict::ALL
        .iter()
        .zip(seen)
        .find(|(verdict, times)| !matches!(verdict, Verdict::Malformed | Verdict::Unknown) && *times < 1_000.min(pairs / 1_000));
    assert!(rare.is_none(), "seed {seed}: too seldom to mean anything: {rare:?} of {}", table.join(", "));
}

/// The comparison is shown what it must catch: a model with one rule told wrongly differs from the library, whichever rule it is.
#[test]
fn each_rule_told_wrongly_is_noticed() {
    let mut world = World::new(7);
    let mut noticed = [0u64; Wrong::ALL.len()];
    for pair in 1..=150_000 {
        let case = world.case();
        let verdict = world.verdict(&case);
        for (wrong, times) in Wrong::ALL.into_iter().zip(&mut noticed) {
            let told = model::verdict(&world.keys[case.key], case.secret, &case.request, &world.catalog, Some(wrong));
            *times += u64::from(told != verdict);
        }
        if pair % ROUND == 0 {
            world.change();
        }
    }
    println!("{:?}", Wrong::ALL.iter().zip(noticed).collect::<Vec<_>>());
    let missed: Vec<_> = Wrong::ALL.iter().zip(noticed).filter(|(_, times)| *times < 5).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_mapped_network_shorter_than_96_bits_is_refused() {
    for base in ["::ffff:0.0.0.0", "::ffff:10.1.2.3", "::ffff:ffff:ffff"] {
        for length in 0..=140 {
            let text = format!("{base}/{length}");
            let expected = (96..=128).contains(&length);
            assert_eq!(text.parse::<Network>().is_ok(), expected, "{text}");
        }
    }
    for bad in
        ["", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8 ", "2001:db8::/129", "::%1/64"]
    {
        assert!(bad.parse::<Network>().is_err(), "{bad}");
    }
}
