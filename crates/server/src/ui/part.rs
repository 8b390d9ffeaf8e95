//! Parts that pages share: badges, times, reasons, pagers, bars.

use crate::clock;
use fettle_domain::Timestamp;
use fettle_wire::api::finding::{HistoryEntry, ReasonView};
use maud::{Markup, html};

/// Percent-encodes a part of an address.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// An address with a query; empty values are left out.
pub fn link(path: &str, query: &[(&str, &str)]) -> String {
    let parts: Vec<String> = query
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
}

/// A status: colour and word.
pub fn badge(word: &str) -> Markup {
    let tone = match word {
        "managed" | "verified" | "completed" | "succeeded" | "fixed" | "done" | "passed" | "proved" | "loaded"
        | "approved" | "yes" | "holds" => "good",
        "open" | "affected" | "critical" | "stuck" | "failed" | "halted" | "rejected" | "error" | "exploited" => "bad",
        "high" | "one-time password" | "silent" | "discovered" | "restart-needed" | "imported" | "undoing"
        | "undone" | "rolling-back" | "rolled-back" | "proposed" | "end-of-life" | "paused" | "expired" => "warn",
        "planned" | "remediated" | "running" | "active" | "applying" | "checking" | "offered" | "queued"
        | "fetching" | "ready" | "rebooting" | "enrolling" | "doing" | "draft" | "scheduled" | "soaking" => "info",
        _ => "",
    };
    html! { span class={ "badge " (tone) } { (word) } }
}

/// A number and its word.
pub fn many(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// How long ago, with the moment itself for who points at it.
pub fn ago(text: &str) -> Markup {
    let Some(at) = Timestamp::parse(text) else { return html! { "–" } };
    let seconds = at.until(clock::now()).as_secs();
    let words = match seconds {
        0..=9 => "now".to_owned(),
        10..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    };
    html! { time datetime=(text) title={ (text) " (UTC)" } { (words) } }
}

/// Reasons as a list.
pub fn reasons(reasons: &[ReasonView]) -> Markup {
    html! {
        ul.why {
            @for reason in reasons {
                li { (reason.text) @if !reason.source.is_empty() { " " span.source { "[" (reason.source) "]" } } }
            }
        }
    }
}

/// A history, newest first.
pub fn history(entries: &[HistoryEntry]) -> Markup {
    html! {
        ul.why {
            @for entry in entries.iter().rev() {
                li {
                    (ago(&entry.at)) ": " b { (entry.event) } " by " (entry.actor)
                    @if let Some(reason) = entry.reasons.first() { div.source { (reason.text) } }
                }
            }
        }
    }
}

/// Where a list goes on.
pub fn pager(shown: usize, total: Option<u64>, next: Option<String>) -> Markup {
    html! {
        div.pager {
            span { (shown) " shown" @if let Some(total) = total { " of " (total) } }
            @if let Some(next) = next { a.btn href=(next) { "Next page" } }
        }
    }
}

/// What to do when there is nothing to show.
pub fn empty(what: &str, command: &str) -> Markup {
    html! { div.empty { p { (what) } @if !command.is_empty() { code { (command) } } } }
}

/// Filter chips: word, address, whether it is chosen.
pub fn chips(chips: &[(&str, String, bool)]) -> Markup {
    html! { @for (word, address, chosen) in chips { a.chip href=(address) aria-current=[chosen.then_some("true")] { (word) } } }
}

/// Parts laid end to end on a length: class, where it begins, how long it is. Empty ones are left out.
fn scaled<'a>(parts: &[(&'a str, u64)], length: u64) -> Vec<(&'a str, u64, u64)> {
    let total = parts.iter().map(|(_, number)| number).sum::<u64>().max(1);
    let mut from = 0;
    let mut placed = Vec::new();
    for (class, number) in parts {
        let long = number * length / total;
        if long > 0 {
            placed.push((*class, from, long));
        }
        from += long;
    }
    placed
}

/// A bar of parts (class and number), drawn to scale.
pub fn bar(parts: &[(&str, u64)], label: &str) -> Markup {
    html! {
        svg.bar viewBox="0 0 1000 8" preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (class, from, width) in scaled(parts, 1000) { rect class=(class) x=(from) y="0" width=(width) height="8" {} }
        }
    }
}

/// A ring of parts (class and number) with words in its middle.
pub fn donut(parts: &[(&str, u64)], middle: &str, note: &str) -> Markup {
    let round = 264;
    html! {
        svg width="150" height="150" viewBox="0 0 110 110" role="img" aria-label={ (middle) " " (note) } {
            circle class="ring-mute" cx="55" cy="55" r="42" fill="none" stroke-width="13" {}
            @for (class, from, length) in scaled(parts, round) {
                circle class=(class) cx="55" cy="55" r="42" fill="none" stroke-width="13"
                    stroke-dasharray={ (length) " " (round) } stroke-dashoffset={ "-" (from) } transform="rotate(-90 55 55)" {}
            }
            text.ring-text x="55" y="58" text-anchor="middle" { (middle) }
            text.ring-note x="55" y="71" text-anchor="middle" { (note) }
        }
    }
}

/// Bytes for people.
pub fn bytes(number: u64) -> String {
    match number {
        0..=9_999 => format!("{number} B"),
        10_000..=9_999_999 => format!("{} kB", number / 1000),
        _ => format!("{} MB", number / 1_000_000),
    }
}

/// A line icon by name.
pub fn icon(name: &str) -> Markup {
    let path = match name {
        "home" => "M3 11l9-7 9 7M6 9v11h12V9",
        "host" => "M4 5h16v6H4zM4 13h16v6H4zM8 8h.01M8 16h.01",
        "shield" => "M12 3l8 3v6c0 5-3.5 8-8 9-4.5-1-8-4-8-9V6zM12 8v5M12 16h.01",
        "change" => "M4 17l6-6 4 4 6-8M15 7h5v5",
        "feed" => "M5 5a14 14 0 0 1 14 14M5 11a8 8 0 0 1 8 8M6 18h.01",
        "plus" => "M12 5v14M5 12h14",
        "clock" => "M12 7v5l3 2M12 3a9 9 0 1 0 .01 0",
        "person" => "M12 12a4 4 0 1 0-.01 0M5 20c1-4 4-5 7-5s6 1 7 5",
        "moon" => "M20 14A8 8 0 1 1 10 4a7 7 0 0 0 10 10",
        _ => "M5 12h14",
    };
    html! {
        svg width="17" height="17" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" {
            path d=(path) {}
        }
    }
}
