//! Why an operation was not done.

use fettle_domain::access::Permission;
use fettle_domain::machine::IllegalTransition;
use fettle_store::StoreError;

/// Each kind becomes one kind of problem document (`problem.rs`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpsError {
    /// Nobody is signed in, or no longer.
    #[error("{why}")]
    Unauthenticated {
        /// What was wrong with the credentials, without them.
        why: String,
    },
    /// The one-time password must be changed first.
    #[error("the one-time password of {user} must be changed first")]
    PasswordChangeRequired {
        /// Whose.
        user: String,
    },
    /// The role or the token does not carry the permission.
    #[error("this needs the permission `{permission}`, which {who}")]
    Denied {
        /// Which.
        permission: Permission,
        /// Whose lack it is (`the role viewer does not carry`).
        who: String,
    },
    /// Another site made the browser ask.
    #[error("the request is refused: {why}")]
    CrossSite {
        /// What gave it away.
        why: String,
    },
    /// Denied for another reason than a permission.
    #[error("{why}")]
    Forbidden {
        /// Why, in words.
        why: String,
        /// What to do next.
        advice: String,
    },
    /// It is not there.
    #[error("{what} does not exist")]
    NotFound {
        /// What (`host host_0198…`).
        what: String,
    },
    /// A value is wrong.
    #[error("{field}: {why}")]
    Invalid {
        /// Which, as a path.
        field: String,
        /// What is wrong with it.
        why: String,
        /// What would be right.
        instead: String,
    },
    /// The present state does not allow it.
    #[error("{what}")]
    Conflict {
        /// What stands against it.
        what: String,
    },
    /// Too often.
    #[error("too many {what}")]
    TooMany {
        /// Of what (`wrong passwords for this account`).
        what: String,
        /// Seconds to wait.
        retry_after: u64,
    },
    /// Not now.
    #[error("{why}")]
    Unavailable {
        /// Why.
        why: String,
    },
    /// The database's part of it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpsError {
    /// A `NotFound` of something.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::NotFound { what: what.to_string() }
    }

    /// An `Invalid` value.
    pub fn invalid(field: &str, why: impl std::fmt::Display, instead: impl std::fmt::Display) -> Self {
        Self::Invalid { field: field.to_owned(), why: why.to_string(), instead: instead.to_string() }
    }

    /// A `Conflict`.
    pub fn conflict(what: impl std::fmt::Display) -> Self {
        Self::Conflict { what: what.to_string() }
    }
}

impl From<IllegalTransition> for OpsError {
    fn from(error: IllegalTransition) -> Self {
        Self::Conflict { what: error.to_string() }
    }
}
