//! `fettle plugin`: what plug-ins there are, and built-in ones over the protocol.

use crate::cli::{Output, Plugin};
use crate::failure::Failure;
use crate::output::{self, fixed, flexible};
use crate::plugins;
use fettle_plugin::host::{KindOf, reader_isolation};
use fettle_plugin::{Plugin as _, PluginError, author};
use serde_json::{Value, json};
use std::path::Path;

/// Runs it.
pub fn run(command: &Plugin, form: Output) -> Result<(), Failure> {
    match command {
        Plugin::List { plugins, data } => list(plugins, data.as_deref(), form),
        Plugin::Serve { name } => serve(name),
    }
}

fn list(hosts: &Path, data: Option<&Path>, form: Output) -> Result<(), Failure> {
    let mut items: Vec<Value> = Vec::new();
    let feeds = fettle_vendors::feeds();
    let mut providers = fettle_vendors::providers();
    for feed in &feeds {
        items.push(item(&feed.name().0, KindOf::Feed, "built in", "ready", &feed.manifest().title));
    }
    for provider in &providers {
        let manifest = provider.manifest();
        items.push(item(&manifest.name, KindOf::Provider, "built in", "ready", &manifest.title));
    }
    let scratch = std::env::temp_dir();
    for listed in plugins::registry(hosts)?.of_kind(KindOf::Provider) {
        let (state, title) = told(plugins::provider(listed, &scratch, &providers).map(|provider| {
            let title = provider.manifest().title;
            providers.push(std::sync::Arc::new(provider));
            title
        }));
        items.push(item(&listed.name, KindOf::Provider, &listed.path.display().to_string(), &state, &title));
    }
    if let Some(data) = data {
        let mut taken: Vec<String> = feeds.iter().map(|feed| feed.name().0).collect();
        for listed in plugins::registry(&plugins::list_of(data))?.of_kind(KindOf::Feed) {
            let (state, title) = told(plugins::feed(listed, &scratch, &taken).map(|feed| feed.manifest().title));
            taken.push(listed.name.clone());
            items.push(item(&listed.name, KindOf::Feed, &listed.path.display().to_string(), &state, &title));
        }
    }
    let answer = json!({ "items": items, "reader_isolation": reader_isolation() });
    if form == Output::Json {
        return output::json(&answer);
    }
    let columns =
        [fixed("PLUG-IN", "/name"), fixed("KIND", "/kind"), flexible("FROM", "/from"), flexible("STATE", "/state")];
    output::print(&output::table(&answer, &columns, output::width(), "There is no plug-in."))?;
    for refused in items.iter().filter(|item| item.get("state").is_some_and(|state| state != "ready")) {
        let (name, state) = (output::cell(refused.get("name")), output::cell(refused.get("state")));
        output::print(&output::pairs(&[(name.as_str(), state)], output::width()))?;
    }
    output::print(&output::pairs(&[("Foreign feeds run", reader_isolation())], output::width()))
}

fn told(title: Result<String, PluginError>) -> (String, String) {
    match title {
        Ok(title) => ("ready".to_owned(), title),
        Err(error) if error.advice.is_empty() => (format!("refused: {error}"), String::new()),
        Err(error) => (format!("refused: {error} ({})", error.advice), String::new()),
    }
}

fn item(name: &str, kind: KindOf, from: &str, state: &str, title: &str) -> Value {
    json!({ "name": name, "kind": kind.to_string(), "from": from, "state": state, "title": title })
}

fn serve(name: &str) -> Result<(), Failure> {
    let feeds = fettle_vendors::feeds();
    let providers = fettle_vendors::providers();
    if let Some(feed) = feeds.iter().find(|feed| feed.name().0 == name) {
        return author::serve_feed(feed.as_ref()).map_err(Failure::failed);
    }
    if let Some(provider) = providers.iter().find(|provider| provider.manifest().name == name) {
        return author::serve_provider(provider.as_ref()).map_err(Failure::failed);
    }
    let known: Vec<String> = feeds
        .iter()
        .map(|feed| feed.name().0)
        .chain(providers.iter().map(|provider| provider.manifest().name))
        .collect();
    Err(Failure::new(4, format!("there is no built-in plug-in `{name}`"))
        .advise(format!("One of {}.", known.join(", "))))
}
