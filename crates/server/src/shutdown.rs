//! The end of the server as a value: reconcilers and long polls wait for it beside their own work.

use std::sync::Arc;
use tokio::sync::watch;

/// Says when to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Shutdown {
    /// Asks everybody to stop.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when it is asked for; at once when it was already.
    pub async fn requested(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives in `self`, so this cannot end otherwise.
        let _ = receiver.wait_for(|requested| *requested).await;
    }
}
