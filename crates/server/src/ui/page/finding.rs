//! Findings and vulnerabilities.

use crate::ops::finding::FindingQuery;
use crate::ui::layout;
use crate::ui::part::{ago, badge, chips, empty, escape, history, link, many, pager, reasons};
use crate::ui::sorting::{Sorting, kept};
use crate::ui::visitor::{Answer, Visitor};
use crate::{AppState, ops};
use axum::extract::{Path, Query, State};
use fettle_domain::access::Permission;
use fettle_wire::api::finding::{FindingList, VulnerabilityFactsView};
use maud::{Markup, html};
use serde::Deserialize;

#[derive(Debug, Default, Clone, Deserialize)]
pub struct Filter {
    #[serde(default)]
    state: String,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    fixable: String,
    #[serde(default)]
    exploited: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    limit: String,
    #[serde(default)]
    after: String,
}

impl Filter {
    fn address(&self, change: impl Fn(&mut Filter)) -> String {
        let mut filter = self.clone();
        filter.after = String::new();
        change(&mut filter);
        link(
            "/findings",
            &[
                ("state", &filter.state),
                ("verdict", &filter.verdict),
                ("severity", &filter.severity),
                ("fixable", &filter.fixable),
                ("exploited", &filter.exploited),
                ("host", &filter.host),
                ("source", &filter.source),
                ("text", &filter.text),
                ("sort", &filter.sort),
                ("limit", &filter.limit),
                ("after", &filter.after),
            ],
        )
    }

    /// What stays when other text is searched for.
    fn kept(&self) -> [(&'static str, &str); 9] {
        [
            ("state", &self.state),
            ("verdict", &self.verdict),
            ("severity", &self.severity),
            ("fixable", &self.fixable),
            ("exploited", &self.exploited),
            ("host", &self.host),
            ("source", &self.source),
            ("sort", &self.sort),
            ("limit", &self.limit),
        ]
    }

    fn query(&self) -> FindingQuery {
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        FindingQuery {
            state: filled(&self.state),
            verdict: filled(&self.verdict),
            severity: filled(&self.severity),
            fixable: self.fixable.parse().ok(),
            exploited: self.exploited.parse().ok(),
            host: filled(&self.host),
            source: filled(&self.source),
            text: filled(&self.text),
            sort: filled(&self.sort),
            limit: self.limit.parse().ok(),
            after: filled(&self.after),
            ..FindingQuery::default()
        }
    }
}

/// A page of findings.
pub async fn list(State(state): State<AppState>, visitor: Visitor, Query(mut filter): Query<Filter>) -> Answer {
    let served = ops::finding::sorts(&filter.query())?;
    filter.sort = kept(&filter.sort, &ops::finding::sorts(&FindingQuery::default())?, &served);
    let findings = ops::finding::list(&state, visitor.actor(), filter.query()).await?;
    let next = findings.next.clone().map(|next| filter.address(|filter| filter.after.clone_from(&next)));
    let plain = filter.state.is_empty()
        && filter.verdict.is_empty()
        && filter.fixable.is_empty()
        && filter.exploited.is_empty()
        && filter.severity.is_empty();
    let only = |change: fn(&mut Filter)| {
        let mut fresh = Filter {
            host: filter.host.clone(),
            source: filter.source.clone(),
            text: filter.text.clone(),
            sort: filter.sort.clone(),
            limit: filter.limit.clone(),
            ..Filter::default()
        };
        change(&mut fresh);
        fresh.address(|_| {})
    };
    let by = |sort: &str| filter.address(|filter| sort.clone_into(&mut filter.sort));
    let sorting = Sorting::new(&filter.sort, "-priority", &by).within(&served);
    Ok(layout::page(
        &visitor,
        "/findings",
        "Findings",
        html! {
            div.title { div { h1 { "Findings" } div.sub { "Vulnerabilities that are present on hosts" } } }
            section.card {
                form.filters action="/findings" method="get" {
                    input type="search" name="text" value=(filter.text) placeholder="CVE or source package" aria-label="CVE or source package";
                    @for (name, value) in filter.kept() { @if !value.is_empty() { input type="hidden" name=(name) value=(value); } }
                    @if !filter.host.is_empty() { a class="chip off" aria-current="true" href=(filter.address(|filter| filter.host.clear())) aria-label="One host only, show all hosts" { "Host " (host_name(&findings, &filter)) } }
                    @if !filter.source.is_empty() { a class="chip off" aria-current="true" href=(filter.address(|filter| filter.source.clear())) aria-label={ "Source package " (filter.source) ", show all" } { "Package " (filter.source) } }
                    (chips(&[
                        ("Mean work", only(|_| {}), plain),
                        ("Fix published", only(|filter| filter.fixable = "true".into()), filter.fixable == "true"),
                        ("Exploited", only(|filter| filter.exploited = "true".into()), filter.exploited == "true"),
                        ("High and up", only(|filter| filter.severity = "high".into()), filter.severity == "high"),
                        ("Restart needed", only(|filter| filter.verdict = "restart-needed".into()), filter.verdict == "restart-needed"),
                        ("Vendor ignores", only(|filter| filter.verdict = "ignored,end-of-life".into()), filter.verdict.starts_with("ignored")),
                        ("Proved closed", only(|filter| filter.state = "verified".into()), filter.state == "verified"),
                        ("All", only(|filter| filter.state = "all".into()), filter.state == "all"),
                    ]))
                }
                @if findings.items.is_empty() {
                    (empty("No finding fits. Are feeds loaded and hosts enrolled?", "fettle feed sync && fettle host token create"))
                } @else {
                    (table(&findings, Some(&sorting)))
                    (pager(findings.items.len(), findings.total, next))
                }
            }
        },
    ))
}

/// The host that a list is narrowed to, by name where the list shows it.
fn host_name<'a>(findings: &'a FindingList, filter: &'a Filter) -> &'a str {
    findings.items.first().map_or(filter.host.as_str(), |finding| finding.host_name.as_str())
}

/// Findings as a table; without `sorting` they stand in the order of work.
pub fn table(findings: &FindingList, sorting: Option<&Sorting>) -> Markup {
    let head = |words: &str, first: &str| match sorting {
        Some(sorting) => sorting.head(words, first),
        None => html! { th scope="col" { (words) } },
    };
    html! {
        div.scroll { table.stack {
            thead { tr { (head("Vulnerability", "-vulnerability")) (head("Severity", "-priority")) (head("Source package", "source")) th scope="col" { "Fixed in" } th scope="col" { "Host" } th scope="col" { "State" } (head("First seen", "-first_seen")) } }
            tbody {
                @for finding in &findings.items {
                    tr {
                        td.tight data-label="Vulnerability" { div { a href={ "/findings/" (finding.id) } { (finding.vulnerability) } @if finding.exploited { " " (badge("exploited")) } } }
                        td data-label="Severity" { div { (badge(&finding.level)) } }
                        td data-label="Package" { div { a href=(link("/findings", &[("source", &finding.source)])) { (finding.source) } div.under.mono { (finding.source_version) } } }
                        td.mono data-label="Fixed in" { @match &finding.fixed_version { Some(version) => (version), None => "no fix yet" } }
                        td data-label="Host" { a href={ "/hosts/" (finding.host) } { (finding.host_name) } }
                        td data-label="State" { div { (badge(&finding.state)) @if finding.verdict != "affected" { div.under { (finding.verdict) } } } }
                        td.tight data-label="First seen" { (ago(&finding.first_seen)) }
                    }
                }
            }
        } }
    }
}

/// One finding with its chain of reasons.
pub async fn show(State(state): State<AppState>, visitor: Visitor, Path(id): Path<String>) -> Answer {
    let detail = ops::finding::show(&state, visitor.actor(), &id).await?;
    let explanation = ops::finding::explain(&state, visitor.actor(), &id).await?;
    let finding = &detail.summary;
    Ok(layout::page(
        &visitor,
        "/findings",
        &finding.vulnerability,
        html! {
            div.title {
                div {
                    h1 { (finding.vulnerability) " on " (finding.host_name) }
                    div.sub { (badge(&finding.state)) " " (badge(&finding.verdict)) " first seen " (ago(&finding.first_seen)) }
                }
                div.actions {
                    a.btn href={ "/vulnerabilities/" (escape(&finding.vulnerability)) } { "All its hosts" }
                    @if visitor.actor().may(Permission::ChangeCreate) && finding.fixed_version.is_some() && finding.state == "open" {
                        a.btn.primary href={ "/changes/new?finding=" (finding.id) } { "Close by a change" }
                    }
                }
            }
            div.two {
                section.card { header { h2 { "Why" } } div.body { (reasons(&detail.reasons))
                    @if !explanation.waiting_for.is_empty() { h2 { "Waiting for" } ul.why { @for entry in &explanation.waiting_for { li { (entry) } } } }
                } }
                section.card { header { h2 { "What" } } div.body {
                    dl.pairs {
                        dt { "Source package" } dd { (finding.source) " " span.mono { (finding.source_version) } }
                        dt { "Binary packages" } dd { (finding.packages.join(" ")) }
                        dt { "Fixed in" } dd.mono { @match &finding.fixed_version { Some(version) => (version), None => "no fix yet" } }
                        dt { "Host" } dd { a href={ "/hosts/" (finding.host) } { (finding.host_name) } }
                    }
                } }
            }
            (facts(&detail.facts))
            section.card { header { h2 { "History" } } div.body { (history(&detail.history)) } }
        },
    ))
}

fn facts(facts: &VulnerabilityFactsView) -> Markup {
    html! {
        section.card { header { h2 { "The flaw" } } div.body {
            p { @if facts.description.is_empty() { span.soft { "No loaded feed describes it." } } @else { (facts.description) } }
            dl.pairs {
                dt { "CVSS" } dd { @match facts.cvss_score { Some(score) => { (format!("{score:.1}")) " " span.mono { (facts.cvss_vector.clone().unwrap_or_default()) } }, None => "not stated" } }
                dt { "EPSS" } dd { @match facts.epss_score { Some(score) => { (format!("{:.1} % within 30 days", score * 100.0)) }, None => "not scored" } }
                dt { "Exploited" } dd { @match &facts.kev_date_added { Some(at) => { (badge("exploited")) " listed by CISA since " (at) ", due " (facts.kev_due_date.clone().unwrap_or_default()) }, None => "not listed by CISA KEV" } }
            }
        } }
    }
}

/// One vulnerability: facts, hosts, what each feed says.
pub async fn vulnerability(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(filter): Query<Filter>,
) -> Answer {
    let detail = ops::finding::vulnerability_show(&state, visitor.actor(), &id).await?;
    let query = FindingQuery {
        vulnerability: Some(detail.id.clone()),
        state: Some("all".into()),
        after: Some(filter.after).filter(|after| !after.is_empty()),
        ..FindingQuery::default()
    };
    let findings = ops::finding::list(&state, visitor.actor(), query).await?;
    let here = format!("/vulnerabilities/{}", escape(&detail.id));
    let next = findings.next.clone().map(|next| link(&here, &[("after", &next)]));
    Ok(layout::page(
        &visitor,
        "/findings",
        &detail.id,
        html! {
            div.title {
                div { h1 { (detail.id) } div.sub { "open on " (many(detail.hosts, "host")) } }
                @if visitor.actor().may(Permission::ChangeCreate) && detail.hosts > 0 {
                    div.actions { a.btn.primary href={ "/changes/new?vulnerability=" (escape(&detail.id)) } { "Close everywhere by a change" } }
                }
            }
            (facts(&detail.facts))
            section.card {
                header { h2 { "Hosts" } }
                @if findings.items.is_empty() { (empty("No host has or had it.", "")) } @else { (table(&findings, None)) (pager(findings.items.len(), None, next)) }
            }
            section.card {
                header { h2 { "What each feed says" } }
                @if detail.statements.is_empty() { (empty("No loaded feed states anything.", "fettle feed sync")) }
                @else { div.scroll { table.stack {
                    thead { tr { th { "Feed" } th { "Record" } th { "Release" } th { "Source package" } th { "Says" } } }
                    tbody { @for statement in &detail.statements { tr {
                        td data-label="Feed" { (statement.feed) } td data-label="Record" { (statement.record) } td data-label="Release" { (statement.release) }
                        td data-label="Package" { (statement.source) } td data-label="Says" { (statement.statement) }
                    } } }
                } } }
            }
        },
    ))
}
