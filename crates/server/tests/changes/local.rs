//! What hosts do by themselves: an undo that their administrator asked for on the host.

use super::agent::Conduct;
use super::fleet::{Fleet, LIMIT, settings};
use fettle_domain::machine::DeploymentEvent;
use fettle_domain::reason::Reason;
use fettle_testkit::{TestDatabase, eventually};
use fettle_wire::agent::ReportBody;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_on_the_host_itself_is_accepted_shown_and_opens_the_findings_again() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good]).await;
        let path = fleet.ask(json!({})).await;
        fleet.approve(&path).await;
        fleet.act(&path, "start").await;
        assert_eq!(fleet.run_until(&path, &["completed"]).await, "completed");
        fleet.until_findings("verified", 1).await;
        let agent = &mut fleet.agents[0];
        let id = *agent.known.keys().next().unwrap();
        let reason = Reason::new("undo.on-the-host", "undone on the host by joe");
        agent.say(ReportBody::Deployment { deployment: id, event: DeploymentEvent::Undo, reasons: vec![reason] });
        agent.say(ReportBody::Deployment { deployment: id, event: DeploymentEvent::FinishUndo, reasons: vec![] });
        agent.install(id, true);
        agent.report().await;
        agent.check_in().await;
        fleet.until_findings("open", 1).await;
        eventually("the undo is proved", LIMIT, || async { fleet.deployments(&path).await == ["web-1 undone proved"] })
            .await;
        let detail = fleet.admin.get(&format!("/api/v1/deployments/{id}")).await.ok();
        assert_eq!(detail["summary"]["anomalies"], 0, "{detail:#}");
        let explained = fleet.admin.get(&format!("/api/v1/deployments/{id}/explain")).await.ok();
        assert!(explained["history"].to_string().contains("undone on the host by joe"), "{explained:#}");
        assert_eq!(fleet.state(&path).await, "completed", "what was rolled out was rolled out");
        // The server orders no undo of its own for it any more.
        fleet.act(&path, "undo").await;
        fleet.run_until(&path, &["rolled-back"]).await;
    }
}
