//! Hosts and enrolment.

use crate::ops::finding::FindingQuery;
use crate::ops::host::HostQuery;
use crate::ui::part::{ago, badge, chips, empty, escape, history, link, many, pager};
use crate::ui::sorting::Sorting;
use crate::ui::visitor::{Answer, PageError, Visitor};
use crate::ui::{form, layout};
use crate::{AppState, ops};
use axum::extract::{Form, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Redirect;
use fettle_domain::access::Permission;
use fettle_wire::api::host::{EnrolmentTokenCreate, EnrolmentTokenMade, HostDetail, PackageList};
use maud::{Markup, html};
use serde::Deserialize;

#[derive(Debug, Default, Clone, Deserialize)]
pub struct Filter {
    #[serde(default)]
    state: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    restart_needed: String,
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
        let mut filter = Filter { after: String::new(), ..self.clone() };
        change(&mut filter);
        link(
            "/hosts",
            &[
                ("state", &filter.state),
                ("group", &filter.group),
                ("restart_needed", &filter.restart_needed),
                ("text", &filter.text),
                ("sort", &filter.sort),
                ("limit", &filter.limit),
                ("after", &filter.after),
            ],
        )
    }

    /// What stays when another name is searched for.
    fn kept(&self) -> [(&'static str, &str); 5] {
        [
            ("state", &self.state),
            ("group", &self.group),
            ("restart_needed", &self.restart_needed),
            ("sort", &self.sort),
            ("limit", &self.limit),
        ]
    }
}

/// A page of hosts.
pub async fn list(State(state): State<AppState>, visitor: Visitor, Query(filter): Query<Filter>) -> Answer {
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let query = HostQuery {
        state: filled(&filter.state),
        group: filled(&filter.group),
        restart_needed: filter.restart_needed.parse().ok(),
        text: filled(&filter.text),
        sort: filled(&filter.sort),
        after: filled(&filter.after),
        limit: filter.limit.parse().ok(),
        ..HostQuery::default()
    };
    let hosts = ops::host::list(&state, visitor.actor(), query).await?;
    let next = hosts.next.clone().map(|next| filter.address(|filter| filter.after.clone_from(&next)));
    let only = |wanted: &str, restart: &str| {
        filter.address(|filter| (filter.state, filter.restart_needed) = (wanted.to_owned(), restart.to_owned()))
    };
    let by = |sort: &str| filter.address(|filter| sort.clone_into(&mut filter.sort));
    let sorting = Sorting::new(&filter.sort, "name", &by);
    let restart = filter.restart_needed == "true";
    Ok(layout::page(
        &visitor,
        "/hosts",
        "Hosts",
        html! {
            div.title {
                div { h1 { "Hosts" } div.sub { @if filter.group.is_empty() { "Every machine that enrolled" } @else { "Group " (filter.group) } } }
                @if visitor.actor().may(Permission::HostEnrol) { div.actions { a.btn.primary href="/enrol" { "Enrol a host" } } }
            }
            section.card {
                form.filters action="/hosts" method="get" {
                    input type="search" name="text" value=(filter.text) placeholder="Name" aria-label="Name";
                    @for (name, value) in filter.kept() { @if !value.is_empty() { input type="hidden" name=(name) value=(value); } }
                    @if !filter.group.is_empty() { a class="chip off" aria-current="true" href=(filter.address(|filter| filter.group.clear())) aria-label={ "Group " (filter.group) ", show all groups" } { "Group " (filter.group) } }
                    (chips(&[
                        ("All", only("", ""), filter.state.is_empty() && !restart),
                        ("Managed", only("managed", ""), filter.state == "managed"),
                        ("Silent", only("silent", ""), filter.state == "silent"),
                        ("Imported", only("imported", ""), filter.state == "imported"),
                        ("To accept", only("discovered", ""), filter.state == "discovered"),
                        ("Enrolling", only("enrolling", ""), filter.state == "enrolling"),
                        ("Restart needed", only("", "true"), restart),
                        ("Retired", only("retired", ""), filter.state == "retired"),
                    ]))
                }
                @if hosts.items.is_empty() {
                    (empty("No host fits. Enrol one: this prints the line to paste on the machine.", "fettle host token create"))
                } @else {
                    div.scroll { table.stack {
                        thead { tr { (sorting.head("Host", "name")) (sorting.head("Operating system", "os")) (sorting.head("State", "state")) th scope="col" { "Restart" } th scope="col" { "Agent" } (sorting.head("Last seen", "-last_seen")) } }
                        tbody { @for host in &hosts.items { tr {
                            td data-label="Host" { div { a href={ "/hosts/" (host.id) } { (host.name) } @for notice in &host.notices { div.warn-text { (notice) } } } }
                            td data-label="System" { (host.os) }
                            td data-label="State" { div { (badge(&host.state)) } }
                            td data-label="Restart" { (restart_words(host.reboot_pending, host.restart_pending)) }
                            td data-label="Agent" { (host.agent_version) }
                            td.tight data-label="Last seen" { (ago(&host.last_seen)) }
                        } } }
                    } }
                    (pager(hosts.items.len(), hosts.total, next))
                }
            }
        },
    ))
}

fn restart_words(reboot: bool, services: u64) -> Markup {
    html! { @if reboot { span.warn-text { "reboot" } } @else if services > 0 { span.warn-text { (many(services, "service")) } } @else { "–" } }
}

#[derive(Debug, Default, Deserialize)]
pub struct Packages {
    #[serde(default)]
    packages: String,
    #[serde(default)]
    after: String,
}

/// One host.
pub async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(wanted): Query<Packages>,
) -> Answer {
    let actor = visitor.actor();
    let host = ops::host::show(&state, actor, &id).await?;
    let id = host.summary.id.clone();
    let explanation = ops::host::explain(&state, actor, &id).await?;
    let findings = ops::finding::list(
        &state,
        actor,
        FindingQuery { host: Some(id.clone()), limit: Some(15), ..Default::default() },
    )
    .await?;
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let packages =
        ops::host::packages(&state, actor, &id, filled(&wanted.packages), filled(&wanted.after), Some(25)).await?;
    let open: u64 = host.findings.iter().map(|level| level.findings).sum();
    Ok(layout::page(
        &visitor,
        "/hosts",
        &host.summary.name,
        html! {
            div.title {
                div { h1 { (host.summary.name) } div.sub { (badge(&host.summary.state)) " " (host.summary.os) " · " @if host.imported.is_some() { "as of " } @else { "last seen " } (ago(&host.summary.last_seen)) } }
                div.actions {
                    @if actor.may(Permission::ChangeCreate) && open > 0 && host.imported.is_none() { a.btn.primary href={ "/changes/new?host=" (id) } { "Change this host" } }
                    @if actor.may(Permission::HostManage) && host.summary.state != "retired" { (revoke_form(&visitor, &id)) }
                }
            }
            @if let Some(imported) = &host.imported {
                div.notice data-part="imported" {
                    b { "Imported from a file: " } "as of " (imported.as_of) " (" (ago(&imported.as_of)) "), by " (imported.imported_by) ". No agent runs there: nothing is changed from here, and only a newer file brings news."
                    @if !imported.missing.is_empty() { " Missing in it: " (imported.missing.join("; ")) }
                }
            }
            (super::identity::notices(&visitor, &host))
            @for why in &host.reboot_reasons { div.notice { b { "Reboot needed: " } (why) } }
            (facts(&host))
            section.card { header { h2 { "Findings" } a href={ "/findings?host=" (id) } { (open) " in all" } }
                @if findings.items.is_empty() { (empty("No finding that means work.", "")) } @else { (super::finding::table(&findings, None)) } }
            (services(&host))
            (package_table(&id, &packages, &wanted))
            section.card { header { h2 { "History" } } div.body {
                ul.why { @for entry in &explanation.waiting_for { li { "Waiting for " (entry) } } }
                (history(&explanation.history))
            } }
        },
    ))
}

fn revoke_form(visitor: &Visitor, id: &str) -> Markup {
    html! {
        details.act {
            summary.btn.danger { "Revoke" }
            div.card { div.body { form action={ "/hosts/" (id) "/revoke" } method="post" {
                input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                p { "Its certificate is refused from now on. To come back, the machine enrols anew." }
                div.field { label for="reason" { "Why" } input id="reason" name="reason" required; }
                button.danger type="submit" { "Yes: revoke" }
            } } }
        }
    }
}

#[derive(Deserialize)]
pub struct Revoke {
    csrf: String,
    reason: String,
}

/// Refuses a host from now on.
pub async fn revoke(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(asked): Form<Revoke>,
) -> Result<Redirect, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    ops::host::revoke(&state, visitor.actor(), &id, asked.reason).await?;
    Ok(Redirect::to(&format!("/hosts/{}", escape(&id))))
}

fn facts(host: &HostDetail) -> Markup {
    let or_dash = |text: String| if text.is_empty() { "–".to_owned() } else { text };
    html! {
        section.card { header { h2 { "Facts" } } div.body { dl.pairs.wide {
            dt { "Kernel" } dd { (host.kernel_running) " " span.soft { (host.kernel_running_version) } }
            dt { "Newest installed" } dd { (or_dash(host.kernel_newest.clone())) " " span.soft { (host.kernel_newest_version) } }
            dt { "Architecture" } dd { (host.architecture) }
            dt { "Virtualisation" } dd { (host.virtualisation) }
            dt { "Addresses" } dd { (or_dash(host.addresses.join(" "))) }
            dt { "MAC" } dd { (or_dash(host.macs.join(" "))) }
            dt { "Groups" } dd { @if host.groups.is_empty() { "–" } @for group in &host.groups { a href=(link("/hosts", &[("group", group)])) { (group) } " " } }
            dt { "Tags" } dd { (or_dash(host.tags.join(" "))) }
            dt { "Location" } dd { (or_dash(host.location.clone())) }
            dt { "Agent" } dd { (host.summary.agent_version) @if host.read_only { ", read-only" } }
            dt { "Certificate" } dd { @if let Some(at) = &host.identity.certificate_expires_at { "until " (at) " (number " (host.identity.certificates) ")" } @else { "–" } }
            dt { "Enrolled" } dd { (ago(&host.enrolled_at)) }
            dt { "Id" } dd.mono { (host.summary.id) }
        } } }
    }
}

fn services(host: &HostDetail) -> Markup {
    html! {
        section.card { header { h2 { "Services" } }
            @if host.services.is_empty() { (empty("No service was seen (a read-only agent sees only what its user may).", "")) } @else {
                div.scroll { table.stack {
                    thead { tr { th { "Unit" } th { "Executable" } th { "Package" } th { "Listens" } th { "Restart" } } }
                    tbody { @for service in &host.services { tr {
                        td data-label="Unit" { (service.unit) } td.mono data-label="Executable" { (service.executable) } td data-label="Package" { (service.package) }
                        td.mono data-label="Listens" { (service.listens.join(", ")) }
                        td data-label="Restart" { @if service.restart_pending { span.warn-text { "uses replaced files" } } @else { "–" } }
                    } } }
                } }
            }
        }
    }
}

fn package_table(id: &str, packages: &PackageList, wanted: &Packages) -> Markup {
    let here = format!("/hosts/{id}");
    let next = packages.next.clone().map(|next| link(&here, &[("packages", &wanted.packages), ("after", &next)]));
    html! {
        section.card {
            header { h2 { "Packages" } }
            form.filters action=(here) method="get" { input type="search" name="packages" value=(wanted.packages) placeholder="Package or source" aria-label="Package or source"; button type="submit" { "Search" } }
            div.scroll { table.stack {
                thead { tr { th { "Package" } th { "Version" } th { "Source" } th { "Origin" } th { "Marks" } } }
                tbody { @for package in &packages.items { tr {
                    td data-label="Package" { div { (package.name) span.soft { ":" (package.architecture) } } }
                    td.mono data-label="Version" { (package.version) } td data-label="Source" { (package.source) } td data-label="Origin" { (package.origin) }
                    td data-label="Marks" { div { @if package.held { (badge("held")) } @if !package.automatic { " by hand" } @if package.state != "installed" { " " (badge(&package.state)) } } }
                } } }
            } }
            (pager(packages.items.len(), packages.total, next))
        }
    }
}

/// The form for a token.
pub async fn enrol_form(visitor: Visitor) -> Answer {
    visitor.actor().require(Permission::HostEnrol)?;
    Ok(enrol_page(&visitor, None))
}

fn enrol_page(visitor: &Visitor, made: Option<&EnrolmentTokenMade>) -> Markup {
    layout::page(
        visitor,
        "/enrol",
        "Enrol a host",
        html! {
            div.title { div { h1 { "Enrol a host" } div.sub { "A token lets a machine enrol. It pins this server's authority; the machine's key never leaves it." } } }
            @if let Some(made) = made {
                section.card { header { h2 { "Paste this on the machine, as root" } } div.body {
                    div.copy { code id="command" { (made.command) } button type="button" data-copy="command" { "Copy" } }
                    p.soft { "Works " (many(u64::from(made.uses), "time")) ", until " (made.expires_at) ". It is shown only now. Then start the agent: " code { "fettle agent run" } }
                } }
            }
            section.card { div.body { form action="/enrol" method="post" {
                input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                div.grid {
                    div.field { label for="group" { "Group" } input id="group" name="group"; div.hint { "Made when it is not there; may be left empty" } }
                    div.field { label for="uses" { "Machines" } input id="uses" name="uses" type="number" min="1" max="100000" value="1"; }
                    div.field { label for="hours" { "Hours" } input id="hours" name="hours" type="number" min="1" max="8760" value="1"; }
                }
                button.primary type="submit" { "Make a token" }
            } } }
        },
    )
}

#[derive(Deserialize)]
pub struct Enrol {
    csrf: String,
    #[serde(default)]
    group: Option<String>,
    uses: u32,
    hours: u64,
}

/// Makes a token.
pub async fn enrol(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(asked): Form<Enrol>,
) -> Result<Markup, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    let request = EnrolmentTokenCreate {
        group: form::filled(asked.group),
        uses: Some(asked.uses),
        expires_seconds: Some(asked.hours.saturating_mul(3600)),
        server: None,
    };
    let made =
        ops::host::token_create(&state, visitor.actor(), request, &crate::headers::own_address(&headers)).await?;
    Ok(enrol_page(&visitor, Some(&made)))
}
