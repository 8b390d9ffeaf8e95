//! Passwords: argon2id (RFC 9106, second recommended option scaled to 19 MiB, two passes, as
//! OWASP's cheat sheet has it), a few at a time, in blocking threads.

use crate::ops::OpsError;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;

/// Memory of one hash in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// Hashes at once: bounds memory to about 80 MB and leaves processors for others.
const AT_ONCE: usize = 4;
/// Hashes that wait: beyond it, sign-in says "not now" and does not queue for minutes.
const WAITING: usize = 64;
/// Longest password; argon2 takes more, but nobody types it.
pub const LONGEST: usize = 512;

/// Hashes and checks passwords.
pub struct Passwords {
    running: Semaphore,
    waiting: Semaphore,
    /// What a sign-in with an unknown name is compared with, so that it takes the same time.
    decoy: String,
}

impl Passwords {
    /// Makes the decoy; blocks for one hash.
    pub fn new() -> Result<Self, OpsError> {
        let decoy = hash_now(&super::secret::fresh()?)?;
        Ok(Self { running: Semaphore::new(AT_ONCE), waiting: Semaphore::new(WAITING), decoy })
    }

    /// PHC string of a password.
    pub async fn hash(&self, password: &str) -> Result<String, OpsError> {
        let password = password.to_owned();
        self.run(move || hash_now(&password)).await?
    }

    /// Whether the password is the one of the hash. Without a hash the answer is no, after the
    /// same time.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, OpsError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.decoy).to_owned();
        let password: String = password.chars().take(LONGEST + 1).collect();
        let matches = self.run(move || matches_now(&password, &hash)).await?;
        Ok(matches && known)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, OpsError> {
        let busy =
            || OpsError::Unavailable { why: "too many people sign in at once; try again in a few seconds".to_owned() };
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let _turn = self.running.acquire().await.map_err(|_| busy())?;
        tokio::task::spawn_blocking(work).await.map_err(|_| busy())
    }
}

fn argon2() -> Result<Argon2<'static>, OpsError> {
    let params = Params::new(MEMORY_KIB, 2, 1, None).map_err(refused)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn refused(error: impl std::fmt::Display) -> OpsError {
    OpsError::Unavailable { why: format!("cannot hash a password: {error}") }
}

/// PHC string of a password; blocks.
pub fn hash_now(password: &str) -> Result<String, OpsError> {
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| refused("the system's random source refused"))?;
    let hash: PasswordHash = argon2()?.hash_password_with_salt(password.as_bytes(), &salt).map_err(refused)?;
    Ok(hash.to_string())
}

fn matches_now(password: &str, hash: &str) -> bool {
    let Ok(argon2) = argon2() else { return false };
    let Ok(parsed) = PasswordHash::new(hash) else { return false };
    argon2.verify_password(password.as_bytes(), &parsed).is_ok()
}

/// Whether a new password is good enough; says what would be.
pub fn judge(password: &str, user: &str, shortest: usize) -> Result<(), OpsError> {
    let wrong = |why: String| {
        OpsError::invalid("new", why, format!("Use at least {shortest} characters; several words are best."))
    };
    let length = password.chars().count();
    if length < shortest {
        return Err(wrong(format!("the password has {length} characters, at least {shortest} are needed")));
    }
    if password.len() > LONGEST {
        return Err(wrong(format!("the password is longer than {LONGEST} bytes")));
    }
    let lower = password.to_lowercase();
    if lower.contains(user) || lower.contains("fettle") {
        return Err(wrong("the password contains the user name or the name of this program".to_owned()));
    }
    let distinct: std::collections::BTreeSet<char> = lower.chars().collect();
    if distinct.len() < 5 {
        return Err(wrong("the password repeats very few characters".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_only_against_its_own_hash() {
        let hash = hash_now("correct horse battery").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(matches_now("correct horse battery", &hash));
        assert!(!matches_now("correct horse batterz", &hash));
        assert!(!matches_now("x", "not a hash"));
    }

    #[test]
    fn weak_passwords_are_told_what_is_wrong() {
        for (password, word) in
            [("short", "5 characters"), ("aaaaaaaaaaaaaaaa", "repeats"), ("i-am-ada-the-first", "user name")]
        {
            assert!(judge(password, "ada", 12).unwrap_err().to_string().contains(word), "{password}");
        }
        assert!(judge("correct horse battery", "ada", 12).is_ok());
    }
}
