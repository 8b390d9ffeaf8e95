//! The figures as a table of 80 columns.

use crate::{Pass, Run};

/// One database: grouped beside one transaction each.
pub fn print(runs: &[Run]) {
    let Some(first) = runs.first() else { return };
    let heads: Vec<&str> = runs.iter().map(|run| if run.grouped { "grouped" } else { "one each" }).collect();
    println!(
        "\n{:<34}{:>12}{:>12}{:>8}",
        if first.kind == "sqlite" { "SQLite" } else { "PostgreSQL" },
        heads[0],
        heads.get(1).unwrap_or(&""),
        "ratio"
    );
    for (what, title) in [
        ("connect", "handshakes per second"),
        ("inventory", "first inventories per second"),
        ("digest", "digests per second"),
        ("difference", "differences per second"),
    ] {
        row(title, &numbers(runs, what, |pass| pass.clients.requests as f64 / pass.clients.seconds), true);
        if what != "connect" {
            row("  half within ms", &numbers(runs, what, |pass| pass.clients.middle_ms), false);
            row("  99 of 100 within ms", &numbers(runs, what, |pass| pass.clients.slow_ms), false);
        }
        row(
            "  server processor us each",
            &numbers(runs, what, |pass| pass.server_cpu * 1e6 / pass.clients.requests as f64),
            false,
        );
    }
    let mega = |bytes: u64| bytes as f64 / 1e6;
    row(
        "server memory MB at the end",
        &runs.iter().map(|run| mega(run.passes.last().map_or(0, |(_, pass)| pass.resident))).collect::<Vec<_>>(),
        false,
    );
    row("  at its highest", &runs.iter().map(|run| mega(run.peak)).collect::<Vec<_>>(), false);
    let reconnects: usize = runs.iter().flat_map(|run| &run.passes).map(|(_, pass)| pass.clients.reconnects).sum();
    if reconnects > 0 {
        println!("({reconnects} connections rested for more than 100 seconds and were made anew)");
    }
    let sizes = &first.sizes;
    let per_host = |bytes: i64| bytes as f64 / first.passes[0].1.clients.requests as f64;
    println!(
        "database {:.1} MB after {:.1} MB with the bare hosts: {:.0} bytes a host",
        sizes.total as f64 / 1e6,
        sizes.empty as f64 / 1e6,
        per_host(sizes.total)
    );
    println!(
        "  facts and services as text {:.1} MB, {:.0} bytes a host",
        sizes.facts as f64 / 1e6,
        per_host(sizes.facts)
    );
    println!(
        "  {} package sets {:.1} MB, {:.0} bytes a host; {} package versions",
        sizes.sets,
        sizes.set_bytes as f64 / 1e6,
        per_host(sizes.set_bytes),
        sizes.versions
    );
    if let Some(waiting) = &first.waiting {
        let each = |bytes: u64| bytes.saturating_sub(waiting.before) as f64 / 1e3 / waiting.agents as f64;
        println!("{} agents waiting for work: {:.1} MB of server memory", waiting.agents, mega(waiting.after));
        println!(
            "  {:.1} KB each, of which the idle connection {:.1} KB",
            each(waiting.after),
            each(waiting.connected)
        );
    }
}

/// The middle of the passes of that name, for each run.
fn numbers(runs: &[Run], what: &str, of: impl Fn(&Pass) -> f64) -> Vec<f64> {
    let middle = |run: &Run| {
        let mut all: Vec<f64> = run.passes.iter().filter(|(name, _)| *name == what).map(|(_, pass)| of(pass)).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    runs.iter().map(middle).collect()
}

fn row(title: &str, numbers: &[f64], ratio: bool) {
    let text = |number: f64| if number < 100.0 { format!("{number:.1}") } else { thousands(number) };
    print!("{title:<34}{:>12}", text(numbers[0]));
    if let Some(second) = numbers.get(1) {
        print!("{:>12}", text(*second));
        if ratio {
            print!("{:>8.2}", numbers[0] / second);
        }
    }
    println!();
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
