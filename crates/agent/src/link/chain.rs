//! The chain of this host's check-ins: each names a random link of its own and that of the one before.
//! Two machines that run with one identity cannot both go on with it (see `fettle_wire::agent::Chain`).
//!
//! The link is drawn before a check-in and repeated until that one is answered; only the answered one
//! is written to disk, together with the last contact, so that a check-in costs no further write.

use fettle_wire::agent::Chain;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Where this host stands in its chain.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Of the last check-in that was answered; empty before the first.
    answered: String,
    /// Of the one that waits for its answer.
    drawn: Option<String>,
}

impl Links {
    /// Goes on from what the disk knows.
    pub(crate) fn after(answered: String) -> Self {
        Self { answered, drawn: None }
    }

    /// For the next check-in, or once more for one that was not answered. `None` when the system has
    /// no random bytes: a check-in without chain is better than none.
    pub(crate) fn next(&mut self) -> Option<Chain> {
        if self.drawn.is_none() {
            let mut bytes = [0_u8; 16];
            SystemRandom::new().fill(&mut bytes).ok()?;
            self.drawn = Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        let link = self.drawn.clone()?;
        Some(Chain { previous: self.answered.clone(), link })
    }

    /// The check-in with this link was answered.
    pub(crate) fn answered(&mut self, link: &str) {
        link.clone_into(&mut self.answered);
        self.drawn = None;
    }

    /// Of the last check-in that was answered.
    pub(crate) fn last(&self) -> &str {
        &self.answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_repeated_until_it_is_answered() {
        let mut links = Links::after("aa".repeat(16));
        let first = links.next().unwrap();
        assert_eq!((first.previous.as_str(), first.link.len()), ("aa".repeat(16).as_str(), 32));
        assert_eq!(links.next().unwrap(), first);
        links.answered(&first.link);
        assert_eq!(links.last(), first.link);
        let second = links.next().unwrap();
        assert!(second.previous == first.link && second.link != first.link);
    }
}
