//! The only place that reads the environment.
#![allow(clippy::disallowed_methods)]

use std::ffi::OsString;
#[cfg(feature = "full")]
use std::path::PathBuf;

/// A variable of ours, when it is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What the agent's other half gets of our environment, and nothing else.
pub fn handed_on() -> Vec<(OsString, OsString)> {
    let named = ["FETTLE_LOG", "TZ"].map(|name| (OsString::from(name), std::env::var_os(name)));
    named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// $COLUMNS, else what the terminal says.
pub fn columns() -> Option<usize> {
    variable("COLUMNS")
        .and_then(|text| text.parse().ok())
        .or_else(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col)))
        .filter(|columns| *columns > 0)
}

/// Where this person's settings are: $XDG_CONFIG_HOME/fettle, else ~/.config/fettle.
#[cfg(feature = "full")]
pub fn config_home() -> Option<PathBuf> {
    variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")))
        .map(|folder| folder.join("fettle"))
}
