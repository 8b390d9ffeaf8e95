//! Version orderings. Each scheme is a specification of its own; text is never compared as text.

mod dpkg;
pub mod table;

use crate::package::Ecosystem;
use std::cmp::Ordering;
use std::fmt;

/// A rule that orders versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `[epoch:]upstream[-revision]` (Debian policy 5.6.12, deb-version(7)).
    Dpkg,
}

impl Scheme {
    /// The scheme of this name, as `fettle vercmp` takes it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "dpkg" | "debian" | "deb" => Some(Scheme::Dpkg),
            _ => None,
        }
    }

    /// The scheme that orders an ecosystem's versions.
    pub fn of(ecosystem: Ecosystem) -> Self {
        match ecosystem {
            Ecosystem::Debian | Ecosystem::Generic => Scheme::Dpkg,
        }
    }

    /// Orders two versions; an invalid one is an error that names it.
    pub fn compare(self, a: &str, b: &str) -> Result<Ordering, InvalidVersion> {
        match self {
            Scheme::Dpkg => dpkg::compare(a, b),
        }
    }

    /// Whether the text is a version of this scheme.
    pub fn validate(self, text: &str) -> Result<(), InvalidVersion> {
        match self {
            Scheme::Dpkg => dpkg::validate(text),
        }
    }
}

/// Text that is no version of its scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {scheme} version: {why}")]
pub struct InvalidVersion {
    /// The text, cut to 200 characters.
    pub text: String,
    /// Which scheme.
    pub scheme: Scheme,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Dpkg => "dpkg",
        })
    }
}
