//! Built-in and foreign plug-ins side by side, as agent and server get them.
//!
//! One plug-in that cannot be used does not keep the others away: it is logged, and `fettle plugin list` tells why.
//! A list that cannot be read is another matter: nobody knows then what was meant.
#![cfg_attr(not(feature = "full"), allow(dead_code, reason = "the agent alone reads no feed"))]

use crate::failure::Failure;
use fettle_plugin::host::{KindOf, Listed, Registry, StdioFeed, StdioProvider};
use fettle_plugin::scratch::Scratch;
use fettle_plugin::{Feed, Plugin as _, PluginError, Provider};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the list in a server's data directory.
const LIST: &str = "plugins.toml";
/// Folder for scratch folders, in the data directory of a server or an agent.
const SCRATCH: &str = "plugin-scratch";

/// Where a server's list stands.
pub fn list_of(data: &Path) -> PathBuf {
    data.join(LIST)
}

/// Reads a list.
pub fn registry(path: &Path) -> Result<Registry, Failure> {
    Registry::load(path).map_err(|error| {
        Failure::usage(error).advise("docs/protocol.md describes this file; without it there are no foreign plug-ins.")
    })
}

/// Every feed of a server: the built-in ones, then those its list names.
pub fn feeds(data: &Path) -> Result<Vec<Box<dyn Feed>>, Failure> {
    let scratch = data.join(SCRATCH);
    Scratch::sweep(&scratch);
    let mut feeds = fettle_vendors::feeds();
    for listed in registry(&list_of(data))?.of_kind(KindOf::Feed) {
        let taken: Vec<String> = feeds.iter().map(|feed| feed.name().0).collect();
        match feed(listed, &scratch, &taken) {
            Ok(feed) => feeds.push(Box::new(feed)),
            Err(error) => refused(listed, &error),
        }
    }
    Ok(feeds)
}

/// Every provider of a host: the built-in ones, then those the list names. `state` is where scratch folders may lie;
/// without it, in the system's folder for temporary files.
pub fn providers(list: &Path, state: Option<&Path>) -> Result<Vec<Arc<dyn Provider>>, Failure> {
    let scratch = match state {
        Some(state) => {
            let folder = state.join(SCRATCH);
            Scratch::sweep(&folder);
            folder
        }
        None => std::env::temp_dir(),
    };
    let mut providers = fettle_vendors::providers();
    for listed in registry(list)?.of_kind(KindOf::Provider) {
        match provider(listed, &scratch, &providers) {
            Ok(provider) => providers.push(Arc::new(provider)),
            Err(error) => refused(listed, &error),
        }
    }
    Ok(providers)
}

/// A listed feed, when it is what the list says and nobody else's name.
pub fn feed(listed: &Listed, scratch: &Path, taken: &[String]) -> Result<StdioFeed, PluginError> {
    let feed = StdioFeed::connect(listed.launch(scratch)?)?;
    same_name(listed, &feed.manifest().name)?;
    if taken.contains(&listed.name) {
        return Err(denied(format!("there is another feed named {}; each feed speaks for itself only", listed.name)));
    }
    Ok(feed)
}

/// A listed provider, when it is what the list says and no other manages its ecosystem.
pub fn provider(listed: &Listed, scratch: &Path, others: &[Arc<dyn Provider>]) -> Result<StdioProvider, PluginError> {
    let provider = StdioProvider::connect(listed.launch(scratch)?)?;
    same_name(listed, &provider.manifest().name)?;
    match others.iter().find(|other| other.ecosystem() == provider.ecosystem()) {
        None => Ok(provider),
        Some(other) => Err(denied(format!(
            "{} manages packages of {}, as {} does: there is one provider for each ecosystem",
            listed.name,
            provider.ecosystem(),
            other.manifest().name
        ))),
    }
}

fn same_name(listed: &Listed, says: &str) -> Result<(), PluginError> {
    if says == listed.name {
        return Ok(());
    }
    Err(denied(format!("{} calls itself {says}, plugins.toml lists it as {}", listed.path.display(), listed.name)))
}

fn denied(message: String) -> PluginError {
    PluginError::new(fettle_plugin::ErrorKind::Denied, message)
}

fn refused(listed: &Listed, error: &PluginError) {
    tracing::error!(
        plugin.name = %listed.name, plugin.kind = %listed.kind, plugin.path = %listed.path.display(),
        error.text = %error, error.advice = %error.advice, "a foreign plug-in is not used"
    );
}
