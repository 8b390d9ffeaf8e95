//! What every part of the server holds. Shared machinery only; what is known stands in the store.

use crate::identity::Identity;
use crate::live::Live;
use crate::nudge::Nudges;
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use fettle_plugin::Feed;
use fettle_store::Store;
use fettle_store::systems::inventory::PackageDictionary;
use std::sync::Arc;

/// Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The database.
    pub store: Store,
    /// Certificate authority, TLS certificate, offer key.
    pub identity: Arc<Identity>,
    /// Wakes reconcilers and waiting agents.
    pub nudges: Arc<Nudges>,
    /// What goes on right now, for pages and `fettle change watch`.
    pub live: Arc<Live>,
    /// The publishers that `app` handed in.
    pub feeds: Arc<Vec<Box<dyn Feed>>>,
    /// Configuration.
    pub settings: Arc<Settings>,
    /// Hashes passwords, a few at a time.
    pub passwords: Arc<crate::access::password::Passwords>,
    /// Unique package versions, remembered.
    pub packages: Arc<PackageDictionary>,
    /// Check-ins on their way into the store.
    pub intake: Arc<crate::census::Intake>,
    /// When this server began to listen: hosts' silence before is not theirs.
    pub started_at: fettle_domain::Timestamp,
    /// The end of the server.
    pub shutdown: Shutdown,
}
