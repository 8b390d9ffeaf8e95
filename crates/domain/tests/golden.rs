//! The diagrams of `docs/state-machines.md` are printed from the same tables that decide.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_domain::machine::*;
use std::path::Path;

fn section<M: Machine>(text: &mut String) {
    text.push_str(&format!("## {}\n\n```mermaid\n{}```\n\n", M::NAME, M::mermaid()));
}

#[test]
fn golden_state_machine_diagrams() {
    let mut text = String::from(
        "# State machines\n\nPrinted from the tables in `crates/domain/src/machine/` (`cargo xtask golden`); a test compares.\n\n",
    );
    section::<HostState>(&mut text);
    section::<FindingState>(&mut text);
    section::<PlanState>(&mut text);
    section::<RolloutState>(&mut text);
    section::<WaveState>(&mut text);
    section::<DeploymentState>(&mut text);
    section::<TaskState>(&mut text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/state-machines.md");
    if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, text, "docs/state-machines.md is stale; run `cargo xtask golden` and read the difference");
}
