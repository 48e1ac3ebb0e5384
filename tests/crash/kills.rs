//! SIGKILL at random moments under a mixed load of changes and verifies. Between the kill and the restart the store is checked as it lies there; after the restart
//! keys, functions, history and verdicts are held against what the admins were told.
//!
//! `DOORWARD_CRASH_KILLS` and `DOORWARD_CRASH_SEED` choose how often and when; `make crash` kills a thousand times.
//!
//! Planted to see it fail: in `Writer::write` of `src/catalog/writer.rs`, the answers sent before `self.commit`. It is found within a few kills ("a key that was
//! acknowledged", or a secret that is `ok` after its revocation was answered).

use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, run_in};
use crate::worker::Worker;
use crate::{Dice, folder, number, seed};

const WORKERS: u64 = 5;
const CONFIG: &str = "data_dir = \"{home}/data\"\nrun_dir = \"{home}/run\"\n";
/// After so many kills a new store is begun, so that a long run does not measure the growth of one.
const KILLS_OF_A_STORE: u64 = 100;

#[test]
fn what_was_acknowledged_outlives_the_daemon() {
    let kills = number("DOORWARD_CRASH_KILLS", 50);
    let mut dice = Dice(seed("DOORWARD_CRASH_SEED"));
    let begun = Instant::now();
    let (mut acknowledged, mut made, mut lost, mut left) = (0, 0, 0, kills);
    while left > 0 {
        let workers = run(left.min(KILLS_OF_A_STORE), &mut dice);
        acknowledged += workers.iter().map(|worker| worker.acknowledged).sum::<u64>();
        made += workers.iter().map(|worker| worker.open_made).sum::<u64>();
        lost += workers.iter().map(|worker| worker.open_lost).sum::<u64>();
        left -= left.min(KILLS_OF_A_STORE);
    }
    println!(
        "{kills} kills in {:.0} s: {acknowledged} changes acknowledged, all there; of those open at a kill {made} were made and {lost} were not",
        begun.elapsed().as_secs_f64()
    );
    assert!(acknowledged > kills * 10, "only {acknowledged} changes were acknowledged");
}

fn run(kills: u64, dice: &mut Dice) -> Vec<Worker> {
    let mut daemon = Daemon::start_under(folder(), CONFIG, |_| Vec::new());
    daemon.json(&["functions", "add", "leads.list"]);
    let mut workers: Vec<Worker> = (0..WORKERS).map(|number| Worker::new(number, Dice(dice.bits()))).collect();
    let run_dir = daemon.run_dir();
    let data = daemon.home().join("data").display().to_string();
    let mut noted = daemon.run(&["check", "--head"]).stdout;
    for kill in 0..kills {
        thread::scope(|scope| {
            for worker in &mut workers {
                let run_dir = &run_dir;
                scope.spawn(move || worker.work(run_dir));
            }
            thread::sleep(Duration::from_micros(1_000 + dice.below(100_000)));
            daemon.kill9();
        });
        // Some die again before they are ready.
        if kill % 5 == 4 {
            daemon.kill_while_starting(Duration::from_micros(dice.below(60_000)));
        }
        let check = run_in(&run_dir, &["check", "--data-dir", &data, "--against", noted.trim()], "");
        assert_eq!(check.code, 0, "kill {kill}: {check:?}");
        let head = check.stdout.lines().find_map(|line| line.strip_prefix("head: ")).expect("the head");
        noted = head.to_owned();
        daemon.start_again();
        for worker in &mut workers {
            worker.settle(&run_dir);
        }
    }
    assert_eq!(daemon.json(&["check", "--against", noted.trim()])["clean"], true);
    workers
}
