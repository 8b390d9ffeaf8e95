//! The overview: what is open, what runs, how old the data is.

use crate::ops::change::ChangeQuery;
use crate::ops::finding::FindingQuery;
use crate::ops::host::HostQuery;
use crate::ui::layout;
use crate::ui::part::{ago, badge, bar, donut, empty, many};
use crate::ui::visitor::{Answer, Visitor};
use crate::{AppState, ops};
use axum::extract::State;
use fettle_wire::api::change::{ChangeDetail, ChangeList};
use fettle_wire::api::feed::FeedList;
use fettle_wire::api::finding::{FindingCounts, FindingList};
use fettle_wire::api::host::{HostCounts, HostList};
use maud::{Markup, html};

/// States of findings that mean work.
const OPEN: &[&str] = &["open", "planned", "remediated", "mitigated", "accepted"];

/// Shows it.
pub async fn show(State(state): State<AppState>, visitor: Visitor) -> Answer {
    let actor = visitor.actor();
    let hosts = ops::host::counts(&state, actor).await?;
    let findings = ops::finding::counts(&state, actor).await?;
    let feeds = ops::feed::list(&state, actor).await?;
    let changes = ops::change::list(&state, actor, ChangeQuery { limit: Some(6), ..Default::default() }).await?;
    let running = match changes
        .items
        .iter()
        .find(|change| matches!(change.state.as_str(), "running" | "halted" | "rolling-back" | "paused"))
    {
        Some(change) => Some(ops::change::show(&state, actor, &change.id).await?),
        None => None,
    };
    let urgent =
        ops::finding::list(&state, actor, FindingQuery { fixable: Some(true), limit: Some(8), ..Default::default() })
            .await?;
    let restart = ops::host::list(
        &state,
        actor,
        HostQuery { restart_needed: Some(true), limit: Some(1000), ..Default::default() },
    )
    .await?;
    Ok(layout::page(
        &visitor,
        "/",
        "Overview",
        html! {
            div.title { div { h1 { "Overview" } div.sub { (many(hosts.managed + hosts.silent + hosts.enrolling + hosts.imported, "host")) " · " (many(sum(&findings, |_| true), "finding")) " to work on" } } }
            (cards(&hosts, &findings, &restart))
            div.two { (by_state(&findings)) (rollout(running.as_ref(), &changes)) }
            (most_urgent(&urgent))
            (feed_ages(&feeds))
        },
    ))
}

fn sum(findings: &FindingCounts, wanted: impl Fn(&fettle_wire::api::finding::FindingCountView) -> bool) -> u64 {
    findings
        .items
        .iter()
        .filter(|count| OPEN.contains(&count.state.as_str()) && wanted(count))
        .map(|count| count.findings)
        .sum()
}

fn cards(hosts: &HostCounts, findings: &FindingCounts, restart: &HostList) -> Markup {
    let fixable = sum(findings, |count| count.fixable && count.verdict == "affected");
    let exploited = sum(findings, |count| count.exploited);
    let severe = sum(findings, |count| matches!(count.level.as_str(), "high" | "critical"));
    html! {
        div.grid {
            a.card.kpi href="/hosts" {
                div.label { "Hosts reporting" } div.value { (hosts.managed) }
                div.note { @if hosts.silent > 0 { span.bad-text { (hosts.silent) " silent" } } @else { "none silent" } @if hosts.enrolling > 0 { " · " (hosts.enrolling) " enrolling" } @if hosts.imported > 0 { " · " (hosts.imported) " imported" } }
            }
            a.card.kpi href="/findings?fixable=true" { div.label { "An update would close" } div.value { (fixable) } div.note { "findings with a published fix" } }
            a.card.kpi href="/findings?exploited=true" {
                div.label { "Exploited in the wild" }
                div.value { span class=[(exploited > 0).then_some("bad-text")] { (exploited) } }
                div.note { "listed by CISA KEV" }
            }
            a.card.kpi href="/findings?severity=high" { div.label { "High or critical" } div.value { (severe) } div.note { "by the vendor's word or CVSS" } }
            a.card.kpi href="/hosts?restart_needed=true" {
                div.label { "Waiting for a restart" } div.value { (restart.items.len()) @if restart.next.is_some() { "+" } }
                div.note { "hosts with old kernel or services running" }
            }
        }
    }
}

fn by_state(findings: &FindingCounts) -> Markup {
    let fixable = sum(findings, |count| count.verdict == "affected" && count.fixable);
    let unfixed = sum(findings, |count| count.verdict == "affected" && !count.fixable);
    let restart = sum(findings, |count| count.verdict == "restart-needed");
    let ignored =
        sum(findings, |count| matches!(count.verdict.as_str(), "ignored" | "end-of-life" | "under-investigation"));
    let closed: u64 = findings.items.iter().filter(|count| count.state == "verified").map(|count| count.findings).sum();
    let all = fixable + unfixed + restart + ignored + closed;
    let share = (closed * 100).checked_div(all).map_or_else(|| "–".to_owned(), |share| format!("{share} %"));
    let rows = [
        ("good", "Proved closed", closed, "/findings?state=verified"),
        ("bad", "Open, update published", fixable, "/findings?fixable=true"),
        ("warn", "Fixed on disk, restart needed", restart, "/findings?verdict=restart-needed"),
        ("info", "Open, no fix yet", unfixed, "/findings?fixable=false&verdict=affected"),
        ("", "Vendor decided against a fix", ignored, "/findings?verdict=ignored,end-of-life,under-investigation"),
    ];
    html! {
        section.card {
            header { h2 { "Findings" } span.soft { "what inventories prove" } }
            div.body.donut {
                (donut(&[("ring-good", closed), ("ring-bad", fixable), ("ring-warn", restart), ("ring-info", unfixed), ("ring-rest", ignored)], &share, "closed"))
                ul.legend { @for (tone, words, number, address) in rows { li { span class={ "dot " (tone) } {} a href=(address) { (words) } b { (number) } } } }
            }
        }
    }
}

fn rollout(running: Option<&ChangeDetail>, changes: &ChangeList) -> Markup {
    html! {
        section.card {
            @if let Some(change) = running {
                header { h2 { a href={ "/changes/" (change.summary.id) } { "#" (change.summary.number) " " (change.summary.title) } } (badge(&change.summary.state)) }
                div.body { (progress(change)) }
            } @else {
                header { h2 { "Changes" } a href="/changes" { "All" } }
                @if changes.items.is_empty() {
                    (empty("No change was asked for yet. Choose a finding, or:", "fettle change create --vulnerability CVE-… --host NAME"))
                } @else {
                    div.body { ul.legend { @for change in &changes.items { li { (badge(&change.state)) a href={ "/changes/" (change.id) } { "#" (change.number) " " (change.title) } b { (ago(&change.created_at)) } } } } }
                }
            }
        }
    }
}

/// How far a rollout is, with its gate written out.
pub fn progress(change: &ChangeDetail) -> Markup {
    let of = |states: &[&str]| -> u64 {
        change.deployments.iter().filter(|count| states.contains(&count.state.as_str())).map(|count| count.count).sum()
    };
    let all: u64 = change.deployments.iter().map(|count| count.count).sum();
    let good = of(&["succeeded"]);
    let bad = of(&["failed", "stuck", "undone", "expired", "withdrawn", "not-applicable"]);
    let busy = of(&["queued", "fetching", "ready", "applying", "rebooting", "checking", "undoing"]);
    let waiting = all.saturating_sub(good + bad + busy);
    html! {
        @for wave in &change.waves {
            div.wave {
                div.line { b { "Wave " (wave.number) } (badge(&wave.state)) span.of { (good) " / " (all) } }
                (bar(&[("fill-good", good), ("fill-bad", bad), ("fill-info", busy), ("fill-mute", waiting)], "progress of the wave"))
                p.soft { (bad) " not succeeded · " (busy) " under way · gate: at least " (change.acceptance.success_percent) " % must be proved" }
            }
        }
        @if change.waves.is_empty() { p.soft { "Not started." } }
    }
}

fn most_urgent(findings: &FindingList) -> Markup {
    html! {
        section.card {
            header { h2 { "Most urgent, with a published fix" } a href="/findings?fixable=true" { "All" } }
            @if findings.items.is_empty() {
                (empty("No finding with a published fix. Are feeds loaded and hosts enrolled?", "fettle feed sync"))
            } @else { (super::finding::table(findings, None)) }
        }
    }
}

fn feed_ages(feeds: &FeedList) -> Markup {
    html! {
        section.card {
            header { h2 { "Feeds" } a href="/feeds" { "All" } }
            div.body { ul.legend {
                @for feed in &feeds.items {
                    li {
                        span class={ "dot " @if feed.last_error.is_empty() && feed.loaded_at.is_some() { "good" } @else { "warn" } } {}
                        (feed.name)
                        b { @match &feed.loaded_at { Some(at) => (ago(at)), None => "never loaded" } }
                    }
                }
            } }
        }
    }
}
