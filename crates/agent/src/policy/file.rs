//! Reads the policy. A file that cannot be trusted or understood stops the agent: a host must not
//! lose its guard because of a typing error.

use super::Policy;
use super::glob::Glob;
use super::window::{LONGEST, Window};
use crate::disk::files::{self, DiskError};
use fettle_plugin::ResourceLimits;
use jiff::civil::{Time, Weekday};
use serde::Deserialize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Cap of the file.
const LONGEST_FILE: u64 = 64 << 10;
/// Most patterns in one list, most windows.
const MOST: usize = 1_000;
const KNOWN: &str = "known keys: read_only, providers, allowed_origins, forbidden_packages, confirm, allow_removals, \
    allow_reboot, allow_without_back_out, [[window]] days, from, length, [limits] nice, memory_mib, cpu_percent";

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Others could write it.
    #[error("the host's policy {} can be written by others than root ({why}): chown root and chmod go-w it, and its folder", .path.display())]
    Untrusted {
        /// The file, or its folder.
        path: PathBuf,
        /// Owner and mode.
        why: String,
    },
    /// Not what such a file may hold.
    #[error("the host's policy {} cannot be used: {why}\n{KNOWN}", .path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Which line, and what is wrong with it.
        why: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Text {
    read_only: bool,
    providers: Option<Vec<String>>,
    allowed_origins: Vec<String>,
    forbidden_packages: Vec<String>,
    confirm: Vec<String>,
    allow_removals: bool,
    allow_reboot: bool,
    allow_without_back_out: bool,
    window: Vec<WindowText>,
    limits: LimitsText,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            read_only: false,
            providers: None,
            allowed_origins: Vec::new(),
            forbidden_packages: Vec::new(),
            confirm: Vec::new(),
            allow_removals: true,
            allow_reboot: true,
            allow_without_back_out: false,
            window: Vec::new(),
            limits: LimitsText::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowText {
    #[serde(default)]
    days: Vec<Day>,
    from: String,
    length: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsText {
    nice: Option<u8>,
    memory_mib: Option<u64>,
    cpu_percent: Option<u32>,
}

impl Policy {
    /// Reads it; without a file, everything that is signed and approved is allowed.
    pub(crate) fn load(path: &Path) -> Result<Self, PolicyError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        trusted(path)?;
        path.parent().map_or(Ok(()), trusted)?;
        let wrong = |why: String| PolicyError::Wrong { path: path.to_owned(), why };
        let bytes = files::read(path, LONGEST_FILE)?.unwrap_or_default();
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))?;
        let text: Text = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        parse(text).map_err(wrong)
    }
}

/// Owned by root (or by whom the agent runs as) and writable by nobody else.
fn trusted(path: &Path) -> Result<(), PolicyError> {
    let found = std::fs::metadata(path).map_err(|error| DiskError::io("look at", path, error))?;
    let own = rustix::process::geteuid().as_raw();
    let owner = found.uid();
    if (owner == 0 || owner == own) && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = format!("owner {owner}, mode {:o}", found.mode() & 0o7777);
    Err(PolicyError::Untrusted { path: path.to_owned(), why })
}

fn parse(text: Text) -> Result<Policy, String> {
    let lists = [&text.allowed_origins, &text.forbidden_packages, &text.confirm];
    if lists.iter().any(|list| list.len() > MOST) || text.window.len() > MOST {
        return Err(format!("a list of it is longer than {MOST}"));
    }
    if lists.iter().any(|list| list.iter().any(|pattern| pattern.is_empty() || pattern.len() > 256)) {
        return Err("a pattern is empty or longer than 256 bytes".to_owned());
    }
    let globs = |list: &[String]| list.iter().map(|pattern| Glob::new(pattern)).collect();
    let windows = text.window.iter().map(window).collect::<Result<Vec<_>, _>>()?;
    Ok(Policy {
        read_only: text.read_only,
        allowed_origins: globs(&text.allowed_origins),
        forbidden_packages: globs(&text.forbidden_packages),
        confirm: globs(&text.confirm),
        providers: text.providers,
        forbid_removals: !text.allow_removals,
        forbid_reboot: !text.allow_reboot,
        allow_without_back_out: text.allow_without_back_out,
        windows,
        limits: limits(&text.limits)?,
    })
}

fn window(text: &WindowText) -> Result<Window, String> {
    let (hour, minute) = text.from.split_once(':').ok_or_else(|| time_of_day(&text.from))?;
    let number = |part: &str| part.parse::<i8>().map_err(|_| time_of_day(&text.from));
    let from = Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| time_of_day(&text.from))?;
    let length = duration(&text.length)?;
    Ok(Window { days: text.days.iter().map(|day| weekday(*day)).collect(), from, length })
}

fn time_of_day(text: &str) -> String {
    format!("from = \"{text}\" is no time of day such as \"22:30\"")
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("length = \"{text}\" is no length such as \"90m\" or \"4h\", at most 7 days");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let length = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)).map(Duration::from_secs);
    length.filter(|length| !length.is_zero() && *length <= LONGEST).ok_or_else(wrong)
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Monday => Weekday::Monday,
        Day::Tuesday => Weekday::Tuesday,
        Day::Wednesday => Weekday::Wednesday,
        Day::Thursday => Weekday::Thursday,
        Day::Friday => Weekday::Friday,
        Day::Saturday => Weekday::Saturday,
        Day::Sunday => Weekday::Sunday,
    }
}

fn limits(text: &LimitsText) -> Result<ResourceLimits, String> {
    if text.nice.is_some_and(|nice| nice > 19) {
        return Err("limits.nice is not between 0 and 19".to_owned());
    }
    if text.memory_mib.is_some_and(|memory| memory < 256) {
        return Err("limits.memory_mib is below 256: no package manager works with that".to_owned());
    }
    if text.cpu_percent.is_some_and(|percent| percent == 0 || percent > 100_000) {
        return Err("limits.cpu_percent is not between 1 and 100000 (100 is one processor)".to_owned());
    }
    Ok(ResourceLimits {
        nice: text.nice.unwrap_or(ResourceLimits::default().nice),
        memory_bytes: text.memory_mib.map(|memory| memory << 20),
        cpu_percent: text.cpu_percent,
    })
}
