//! Expected and measured counts: the file, callgrind's dumps, and the comparison.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Instructions for one request, by step.
pub(crate) type Measured = BTreeMap<String, f64>;

/// Where the steps begin in the file.
const STEPS: &str = "[instructions]\n";

/// What the file expects.
pub(crate) struct Counts {
    compiler: String,
    tolerance_percent: f64,
    expected: Measured,
}

impl Counts {
    /// Reads the few forms of TOML that the file has: comments, one table, numbers, a text.
    pub(crate) fn read(text: &str) -> Result<Counts, String> {
        let (mut head, mut expected) = (BTreeMap::new(), Measured::new());
        let mut in_steps = false;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line == STEPS.trim() {
                in_steps = true;
            } else if let Some((name, value)) = line.split_once(" = ") {
                if in_steps {
                    expected.insert(name.to_owned(), number(line, value)?);
                } else {
                    head.insert(name, value.trim_matches('"'));
                }
            } else {
                return Err(format!("gate: counts.toml: '{line}' is neither a name with a value nor {STEPS}"));
            }
        }
        let of_head = |name: &str| head.get(name).ok_or_else(|| format!("gate: counts.toml has no {name}"));
        let tolerance_percent = number("tolerance_percent", of_head("tolerance_percent")?)?;
        Ok(Counts { compiler: (*of_head("compiler")?).to_owned(), tolerance_percent, expected })
    }

    /// A table of all steps, as an error if one is outside the tolerance. One that takes fewer is outside, too: else it could come back unseen.
    pub(crate) fn compare(&self, measured: &Measured, compiler: &str) -> Result<String, String> {
        let tolerance = self.tolerance_percent;
        let (mut report, mut outside) = (format!("{:<18}{:>10}{:>10}\n", "instructions for", "expected", "measured"), 0);
        for name in self.expected.keys().chain(measured.keys().filter(|name| !self.expected.contains_key(*name))) {
            let told = match (self.expected.get(name), measured.get(name)) {
                (Some(expected), Some(measured)) => {
                    let percent = (measured / expected - 1.0) * 100.0;
                    let mark = if percent.abs() > tolerance {
                        outside += 1;
                        "   <- outside"
                    } else {
                        ""
                    };
                    format!("{expected:>10.1}{measured:>10.1}{percent:>+8.1} %{mark}")
                }
                (expected, measured) => {
                    outside += 1;
                    let told = |count: Option<&f64>| count.map_or("none".into(), |count| format!("{count:.1}"));
                    format!("{:>10}{:>10}   <- outside", told(expected), told(measured))
                }
            };
            let _ = writeln!(report, "{name:<18}{told}");
        }
        if outside == 0 {
            let _ = writeln!(report, "gate: {} steps within {tolerance} %", measured.len());
            return Ok(report);
        }
        let _ = writeln!(report, "gate: {outside} of {} steps are outside the tolerance of {tolerance} %", measured.len());
        if compiler != self.compiler {
            let _ = writeln!(report, "gate: the counts are those of {}; this is {compiler}, which may be all of it", self.compiler);
        }
        report.push_str("gate: if that is meant: `make accept-counts`, and commit gate/counts.toml with the reason\n");
        Err(report)
    }
}

/// The file with what was measured in place of what it expected; what stands before the steps stays.
pub(crate) fn accepted(text: &str, measured: &Measured, compiler: &str) -> Result<String, String> {
    let (head, _) = text.split_once(STEPS).ok_or(format!("gate: counts.toml has no {STEPS}"))?;
    let of_head = |line: &str| if line.starts_with("compiler = ") { format!("compiler = \"{compiler}\"\n") } else { format!("{line}\n") };
    let steps = measured.iter().map(|(name, count)| format!("{name} = {count:.1}\n"));
    Ok(head.lines().map(of_head).chain([STEPS.to_owned()]).chain(steps).collect())
}

/// Reads a dump whose reason is 'step, a space, how many requests it counted'. Those that end a run have no such reason.
pub(crate) fn dumped(dump: &str) -> Option<(String, f64)> {
    let field = |name: &str| dump.lines().find_map(|line| line.strip_prefix(name));
    let (step, requests) = field("desc: Trigger: Client Request: ")?.rsplit_once(' ')?;
    let (requests, instructions): (f64, f64) = (requests.parse().ok()?, field("totals: ")?.trim().parse().ok()?);
    Some((step.to_owned(), instructions / requests))
}

fn number(what: &str, value: &str) -> Result<f64, String> {
    value.parse().map_err(|_| format!("gate: counts.toml: '{what}': '{value}' is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# why\ncompiler = \"rustc 1\"\ntolerance_percent = 5\n\n[instructions]\na = 100.0\nb = 10.0\n";

    fn measured(pairs: &[(&str, f64)]) -> Measured {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn more_fewer_new_and_missing_steps_are_outside() {
        let compare = |pairs| Counts::read(FILE).unwrap().compare(&measured(pairs), "rustc 2");
        assert!(compare(&[("a", 104.9), ("b", 9.6)]).is_ok());
        for (pairs, line) in [
            (&[("a", 105.2), ("b", 10.0)][..], "a                      100.0     105.2    +5.2 %   <- outside"),
            (&[("a", 100.0), ("b", 9.4)], "b                       10.0       9.4    -6.0 %   <- outside"),
            (&[("a", 100.0)], "b                       10.0      none   <- outside"),
            (&[("a", 100.0), ("b", 10.0), ("c", 1.0)], "c                       none       1.0   <- outside"),
        ] {
            let report = compare(pairs).unwrap_err();
            assert!(report.lines().any(|written| written == line), "{report}");
            assert!(report.contains("this is rustc 2") && report.contains("make accept-counts"), "{report}");
        }
    }

    #[test]
    fn what_is_accepted_is_expected_from_then_on() {
        let new = measured(&[("a", 50.04), ("c", 1.0)]);
        let text = accepted(FILE, &new, "rustc 2").unwrap();
        assert_eq!(text, "# why\ncompiler = \"rustc 2\"\ntolerance_percent = 5\n\n[instructions]\na = 50.0\nc = 1.0\n");
        assert!(Counts::read(&text).unwrap().compare(&new, "rustc 2").is_ok());
        assert!(Counts::read("a = b\n").is_err() && Counts::read("nonsense\n").is_err() && accepted("", &new, "").is_err());
    }

    #[test]
    fn a_dump_is_read_by_its_reason() {
        let dump = "version: 1\ndesc: Trigger: Client Request: verify_one 200\nevents: Ir\nfn=(1) f\n0 7\ntotals: 5000\n";
        assert_eq!(dumped(dump), Some(("verify_one".to_owned(), 25.0)));
        assert_eq!(dumped("desc: Trigger: Program termination\ntotals: 5000\n"), None);
    }
}
