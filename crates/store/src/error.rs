//! What can go wrong with a database, by what a caller can do about it.

/// An error of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed it since it was read: read again.
    #[error("{what} was changed by somebody else in the meantime; read it again")]
    Conflict {
        /// What.
        what: String,
    },
    /// It is not there.
    #[error("{what} does not exist")]
    NotFound {
        /// What.
        what: String,
    },
    /// A value that must be unique is taken.
    #[error("already taken: {what}")]
    Duplicate {
        /// What, in the database's words.
        what: String,
    },
    /// An event that the present state does not allow.
    #[error(transparent)]
    Illegal(#[from] fettle_domain::machine::IllegalTransition),
    /// The disk is full: nothing of this write was kept, earlier data is untouched.
    #[error("the disk of the database is full; free space, then try again (nothing was lost)")]
    Full,
    /// The database does not answer.
    #[error("cannot reach the database: {cause}")]
    Unavailable {
        /// Driver's message, without credentials.
        cause: String,
    },
    /// Made by a newer Fettle.
    #[error(
        "the database has schema {found}, this Fettle knows up to {known}; start the newer Fettle, or restore a back-up made before the upgrade"
    )]
    NewerSchema {
        /// Version in the database.
        found: i64,
        /// Newest version this program knows.
        known: i64,
    },
    /// What stands in the database is not what was written there.
    #[error("the database holds something unreadable: {what}")]
    Corrupt {
        /// Which column, of what.
        what: String,
    },
    /// The URL names no database.
    #[error("`{url}` is no database URL; use sqlite:PATH or postgres://USER@HOST/NAME")]
    Url {
        /// Without credentials.
        url: String,
    },
    /// Anything else the database says.
    #[error("the database refused: {cause}")]
    Refused {
        /// Driver's message.
        cause: String,
    },
}

impl StoreError {
    /// A `NotFound` of something.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::NotFound { what: what.to_string() }
    }

    /// A `Conflict` on something.
    pub fn conflict(what: impl std::fmt::Display) -> Self {
        Self::Conflict { what: what.to_string() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        if let rusqlite::Error::SqliteFailure(failure, message) = &error {
            let cause = message.clone().unwrap_or_else(|| failure.to_string());
            // Opening a database on a full disk: its shared memory has no room to grow.
            if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE {
                return Self::Full;
            }
            return match failure.code {
                ErrorCode::DiskFull => Self::Full,
                ErrorCode::ConstraintViolation => Self::Duplicate { what: cause },
                ErrorCode::CannotOpen | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                    Self::Unavailable { cause }
                }
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt { what: cause },
                _ => Self::Refused { cause: format!("{cause} (SQLite code {})", failure.extended_code) },
            };
        }
        Self::Refused { cause: error.to_string() }
    }
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> Self {
        use postgres::error::SqlState;
        let Some(db) = error.as_db_error() else {
            return Self::Unavailable { cause: error.to_string() };
        };
        let cause = format!("{} ({})", db.message(), db.code().code());
        if *db.code() == SqlState::DISK_FULL {
            Self::Full
        } else if *db.code() == SqlState::UNIQUE_VIOLATION {
            Self::Duplicate { what: cause }
        } else if *db.code() == SqlState::T_R_DEADLOCK_DETECTED || *db.code() == SqlState::T_R_SERIALIZATION_FAILURE {
            Self::Conflict { what: "a row".into() }
        } else if db.code().code().starts_with("08") || db.code().code().starts_with("57") {
            Self::Unavailable { cause }
        } else {
            Self::Refused { cause }
        }
    }
}
