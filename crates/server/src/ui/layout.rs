//! What surrounds every page: navigation, search, who is signed in.

use super::part::icon;
use super::visitor::Visitor;
use fettle_domain::access::Permission;
use maud::{DOCTYPE, Markup, html};

const NAVIGATION: &[(&str, &str, &str, &str, Option<Permission>)] = &[
    ("", "/", "Overview", "home", None),
    ("", "/hosts", "Hosts", "host", None),
    ("", "/findings", "Findings", "shield", None),
    ("", "/changes", "Changes", "change", None),
    ("Supply", "/feeds", "Feeds", "feed", None),
    ("", "/enrol", "Enrol a host", "plus", Some(Permission::HostEnrol)),
    ("Prove", "/audit", "Audit log", "clock", None),
    ("", "/users", "Users", "person", Some(Permission::UserManage)),
];

/// A page for who is signed in. `active` is the navigation's path.
pub fn page(visitor: &Visitor, active: &str, title: &str, content: Markup) -> Markup {
    let actor = visitor.actor();
    document(
        visitor.theme,
        title,
        html! {
            a.skip href="#content" { "To the content" }
            div.shell {
                div.side {
                    a.brand href="/" { (mark()) "Fettle" }
                    details.menu { summary aria-label="Menu" { "Menu" } }
                    nav aria-label="Main" {
                        @for (kind, path, name, picture, needs) in NAVIGATION {
                            @if needs.is_none_or(|permission| actor.may(permission)) {
                                @if !kind.is_empty() { div.kind { (kind) } }
                                a.item href=(path) aria-current=[(active == *path).then_some("page")] { (icon(picture)) (name) }
                            }
                        }
                    }
                    div.foot { "Times are in UTC" }
                }
                div.main {
                    div.top {
                        form.search action="/findings" method="get" role="search" {
                            input type="search" name="text" placeholder="Search findings: CVE, source package   /" aria-label="Search findings";
                        }
                        div.who {
                            button type="button" data-theme-toggle aria-label="Light or dark" title="Light or dark" { (icon("moon")) }
                            span { a href="/account" { (actor.name) } " · " (actor.role) }
                            form action="/sign-out" method="post" {
                                input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                                button type="submit" { "Sign out" }
                            }
                        }
                    }
                    main.content id="content" { (content) }
                }
            }
        },
    )
}

/// A page of its own: sign-in, errors.
pub fn alone(theme: &str, title: &str, content: Markup) -> Markup {
    document(
        theme,
        title,
        html! {
            main.alone { div.card { div.body { div.brand { (mark()) "Fettle" } (content) } } }
        },
    )
}

fn document(theme: &str, title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[(!theme.is_empty()).then_some(theme)] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Fettle" }
                link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E%3Crect width='24' height='24' rx='6' fill='%231a5fd8'/%3E%3Cpath d='M7 6h10M7 11h7M7 6v12' stroke='white' stroke-width='2.4' fill='none'/%3E%3C/svg%3E";
                link rel="stylesheet" href="/assets/fettle.css";
                script src="/assets/fettle.js" defer {}
            }
            body { (body) }
        }
    }
}

fn mark() -> Markup {
    html! {
        svg width="26" height="26" viewBox="0 0 24 24" aria-hidden="true" {
            rect width="24" height="24" rx="6" fill="#1a5fd8" {}
            path d="M7 6h10M7 11h7M7 6v12" stroke="white" stroke-width="2.4" fill="none" {}
            circle cx="17" cy="16.5" r="1.8" fill="#58d19a" {}
        }
    }
}
