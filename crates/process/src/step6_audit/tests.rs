use super::*;
use fettle_domain::machine::Machine as _;
use fettle_domain::package::{Ecosystem, PackageVersion};
use fettle_domain::plan::PackageStep;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1000)
}

fn installed(name: &str, version: &str, state: InstallState) -> InstalledPackage {
    let package = PackageVersion {
        ecosystem: Ecosystem::Debian,
        name: name.into(),
        version: version.into(),
        architecture: "amd64".into(),
        source: name.into(),
        source_version: version.into(),
    };
    InstalledPackage { package, origin: String::new(), held: false, automatic: false, state }
}

fn manifest() -> Manifest {
    let step = |name: &str, from: Option<&str>, to: Option<&str>| PackageStep {
        name: name.into(),
        architecture: "amd64".into(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        asked: true,
        file: None,
    };
    let steps = vec![step("app", Some("1"), Some("2")), step("new", None, Some("1")), step("old", Some("1"), None)];
    Manifest { ecosystem: Ecosystem::Debian, steps, base_digest: String::new(), download_bytes: 0, disk_bytes: 0 }
}

fn judge(packages: &[InstalledPackage], reverted: bool, confirmed: i64) -> (&'static str, Vec<String>) {
    let inventory = InventoryPicture { confirmed_at: at(confirmed), packages };
    let texts = |reasons: Vec<Reason>| reasons.into_iter().map(|reason| reason.text).collect();
    match prove(&manifest(), reverted, at(1000), Some(inventory)) {
        ProofVerdict::Awaited(reasons) => ("awaited", texts(reasons)),
        ProofVerdict::Proved(reasons) => ("proved", texts(reasons)),
        ProofVerdict::Differs(reasons) => ("differs", texts(reasons)),
    }
}

#[test]
fn only_a_later_inventory_with_exactly_the_manifest_is_proof() {
    let good = [installed("app", "2", InstallState::Installed), installed("new", "1", InstallState::Installed)];
    assert_eq!(judge(&good, false, 1000).0, "awaited");
    assert_eq!(judge(&good, false, 1001).0, "proved");
    let before = [installed("app", "1", InstallState::Installed), installed("old", "1", InstallState::Installed)];
    assert_eq!(judge(&before, true, 1001).0, "proved");
    assert_eq!(judge(&before, false, 1119).0, "awaited", "it may have been made before the end");
    let (verdict, why) = judge(&before, false, 1120);
    assert_eq!(verdict, "differs");
    assert_eq!(
        why,
        [
            "app should be 2, the inventory shows 1",
            "new should be 1, the inventory does not show it",
            "old should be gone, the inventory shows 1"
        ]
    );
    let half = [installed("app", "2", InstallState::HalfConfigured), installed("new", "1", InstallState::Installed)];
    assert_eq!(judge(&half, false, 2000), ("differs", vec!["app 2 is there, but half configured".to_owned()]));
    assert!(matches!(prove(&manifest(), false, at(1), None), ProofVerdict::Awaited(_)));
}

#[test]
fn findings_follow_plan_and_deployment() {
    use FindingsStanding as F;
    for plan in PlanState::STATES {
        let alone = findings_standing(*plan, None);
        for deployment in DeploymentState::STATES {
            let with = findings_standing(*plan, Some(*deployment));
            // Settled means decided: closed by it or not, never still planned.
            assert_eq!(
                deployment.is_settled() || *deployment == DeploymentState::Undoing,
                with != F::Planned,
                "{deployment}"
            );
        }
        let open = matches!(plan, PlanState::Proposed | PlanState::Approved | PlanState::Active);
        assert_eq!(open, alone == F::Planned, "{plan}");
    }
    for standing in F::ALL {
        assert_eq!(F::parse(standing.as_str()), Some(standing));
    }
}
