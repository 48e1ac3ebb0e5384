use std::path::Path;
use std::process::Command;

use crate::daemon::COMMAND;

/// The script of `make demo`. It checks its own verdicts; here it must end well, show what it promises, and never show a token.
#[test]
fn the_demonstration_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/demo.sh");
    let output = Command::new(script).arg(COMMAND).env("TMPDIR", folder.path()).output().expect("the script");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    for promised in [
        "ready",
        "rotate nordwind/website --overlap 1h",
        "revoke kestrel/crawler",
        "latency",
        "p99",
        "files.download",
        "DE",
        "RESULT: 4000 requests",
    ] {
        assert!(printed.contains(promised), "'{promised}' is not in\n{printed}");
    }
    assert!(!printed.contains("dw_") && !errors.contains("dw_"), "a token in\n{printed}");
    assert_eq!(folder.path().read_dir().expect("the folder").count(), 0, "it cleans up");
}
