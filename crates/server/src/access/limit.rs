//! Guessing passwords is slow: wrong ones are counted by account and by address, in the store, so
//! that many servers count together. Each try is counted before the password is looked at, so that
//! many at once gain nothing.

use crate::ops::OpsError;
use crate::{AppState, clock};
use fettle_store::systems::login_attempt;
use std::net::IpAddr;
use std::time::Duration;

/// One try that was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    account: String,
    address: String,
}

impl Try {
    /// Counts a try for an account from an address, or refuses it.
    pub async fn begin(state: &AppState, account: &str, address: IpAddr) -> Result<Self, OpsError> {
        let tried = Self { account: format!("account {account}"), address: format!("address {}", network(address)) };
        let settings = &state.settings.sign_in;
        let limits = [
            (tried.address.clone(), settings.failures_per_address, "wrong passwords from this address"),
            (tried.account.clone(), settings.failures_per_account, "wrong passwords for this account"),
        ];
        let now = clock::now();
        let window_ends = now.after(Duration::from_secs(settings.window_minutes.saturating_mul(60)));
        state
            .store
            .write(move |connection| {
                for (subject, limit, what) in &limits {
                    let (failures, ends) = login_attempt::get(connection, subject, now)?;
                    if failures >= *limit {
                        let retry_after = now.until(ends).as_secs() + 1;
                        return Ok(Err(OpsError::TooMany { what: (*what).to_owned(), retry_after }));
                    }
                }
                for (subject, ..) in &limits {
                    login_attempt::count(connection, subject, now, window_ends)?;
                }
                Ok(Ok(()))
            })
            .await??;
        Ok(tried)
    }

    /// The password was right: the account is forgotten, and this try of the address.
    pub fn was_right(&self, connection: &mut fettle_store::Connection) -> fettle_store::Result<()> {
        login_attempt::forget(connection, &self.account)?;
        login_attempt::take_back(connection, &self.address)
    }
}

/// Refuses an address that tried too many enrolment tokens that are no good. Good ones are never
/// counted: a whole data centre may enrol from one address at once.
pub(crate) async fn enrolment_begin(state: &AppState, address: IpAddr) -> Result<(), OpsError> {
    let (subject, now) = (enrolments_of(address), clock::now());
    let (failures, ends) = state.store.read(move |connection| login_attempt::get(connection, &subject, now)).await?;
    if failures >= state.settings.sign_in.failures_per_address {
        let what = "enrolments with tokens that are no good from this address".to_owned();
        return Err(OpsError::TooMany { what, retry_after: now.until(ends).as_secs() + 1 });
    }
    Ok(())
}

/// Counts an enrolment whose token was no good.
pub(crate) async fn enrolment_failed(state: &AppState, address: IpAddr) -> Result<(), OpsError> {
    let (subject, now) = (enrolments_of(address), clock::now());
    let window_ends = now.after(Duration::from_secs(state.settings.sign_in.window_minutes.saturating_mul(60)));
    state.store.write(move |connection| login_attempt::count(connection, &subject, now, window_ends)).await?;
    Ok(())
}

fn enrolments_of(address: IpAddr) -> String {
    format!("enrolment {}", network(address))
}

/// An IPv6 customer has a whole /64 to come from.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_ipv6_network_counts_as_one() {
        let network = |text: &str| super::network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::9"));
        assert_ne!(network("2001:db8:1:2::9"), network("2001:db8:1:3::9"));
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
