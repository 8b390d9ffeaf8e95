//! What goes on right now: pages and `fettle change watch` listen. Nothing is kept here: who comes
//! late or falls behind reads the store, where everything stands.

use fettle_domain::ChangeId;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Events a slow listener may lag behind before it is told that it missed some.
const KEPT: usize = 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveEvent {
    /// The change it belongs to, if any.
    pub change: Option<ChangeId>,
    /// Stable dotted name, such as `deployment.state`.
    pub kind: String,
    /// JSON of the event.
    pub json: String,
}

/// The loudspeaker.
pub struct Live(Mutex<Option<broadcast::Sender<Arc<LiveEvent>>>>);

impl Default for Live {
    fn default() -> Self {
        Self(Mutex::new(Some(broadcast::channel(KEPT).0)))
    }
}

impl Live {
    /// Tells everybody who listens.
    pub fn publish(&self, event: LiveEvent) {
        if let Some(sender) = self.lock().as_ref() {
            // Nobody listens: fine.
            let _ = sender.send(Arc::new(event));
        }
    }

    /// Listens from now on. `None` when the server ends. A receiver's `Closed` means the same,
    /// `Lagged` means: read the store again.
    pub fn subscribe(&self) -> Option<broadcast::Receiver<Arc<LiveEvent>>> {
        self.lock().as_ref().map(broadcast::Sender::subscribe)
    }

    /// Ends all listeners: the server ends.
    pub fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<broadcast::Sender<Arc<LiveEvent>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
