//! Which users of this host may report to a relay.
//!
//! Root, the user of bmpd and system accounts may, and whoever `allow user` names. So no user who
//! logs in can feed routes that no router has.
//!
//! A name becomes a number when a configuration is read, and again every [`LOOK_AGAIN`] while this
//! host does not know it. A number that was found once stays: in the sandbox of bmpd, no name can
//! be found any more once `/etc/passwd` was replaced.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};
use tracing::warn;

use crate::{
    config::{AllowedUser, Config, RelayConfig},
    sys, tasks,
};

/// How often a name is looked up that this host does not know.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long a look may take. A directory of users elsewhere may not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names of users that are looked up at one time. Further users are called by number.
static LOOKS: Semaphore = Semaphore::const_new(4);

/// The kernel's number of a user that has none here (`overflowuid`, proc(5)), and of `nobody`: a
/// user of another user namespace is shown so.
const NOBODY: u32 = 65_534;
/// `UID_MIN` where login.defs(5) has none.
const USUAL_FIRST: u32 = 1000;
/// The largest file that is read as login.defs(5), in bytes.
const LARGEST: u64 = 1 << 20;

static FIRST_LOGIN_USER: LazyLock<u32> = LazyLock::new(|| {
    let text = sys::read_regular(Path::new("/etc/login.defs"), LARGEST).unwrap_or_default();
    first_login_user(&text)
});

/// Reads which users of this host are system accounts. Call it while bmpd may still read
/// `/etc/login.defs`.
pub fn learn_system_accounts() {
    LazyLock::force(&FIRST_LOGIN_USER);
}

/// Returns `UID_MIN` of a login.defs(5).
fn first_login_user(text: &str) -> u32 {
    let mut values = text.lines().rev().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "UID_MIN").then(|| words.next()?.parse().ok()).flatten()
    });
    values.next().unwrap_or(USUAL_FIRST)
}

fn is_system_account(user: u32, first_login_user: u32) -> bool {
    user == 0 || user < first_login_user && user != NOBODY
}

/// The users that `allow user` of one relay names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AllowedUsers(BTreeSet<u32>);

impl AllowedUsers {
    /// Decides whether a user may connect.
    pub(super) fn has(&self, user: u32) -> bool {
        is_system_account(user, *FIRST_LOGIN_USER) || user == sys::user() || self.0.contains(&user)
    }
}

/// The numbers of the users that configurations name. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct UserNumbers(Arc<Mutex<BTreeMap<String, Option<u32>>>>);

impl UserNumbers {
    /// Looks up the names of a configuration. Returns true if this host does not know all of them.
    pub(super) async fn learn(&self, config: &Config) -> bool {
        let names: BTreeSet<String> = config.relays.values().flat_map(named_users).map(str::to_owned).collect();
        if names.is_empty() {
            return false;
        }
        let look = tasks::blocking(move || {
            let found = |name: String| (sys::user_named(&name).map(|(user, _)| user), name);
            names.into_iter().map(found).map(|(user, name)| (name, user)).collect::<Vec<_>>()
        });
        let Ok(Ok(found)) = timeout(PATIENCE, look).await else {
            warn!("the names of `allow user` are not looked up: this host's directory of users does not answer");
            return true;
        };
        let mut known = self.lock();
        known.retain(|name, number| number.is_some() || found.iter().any(|(found, _)| found == name));
        for (name, user) in found {
            let number = known.entry(name).or_default();
            *number = user.or(*number);
        }
        config.relays.values().flat_map(named_users).any(|name| !known.get(name).is_some_and(Option::is_some))
    }

    /// The users that a relay names, as far as this host knows them.
    pub(super) fn allowed_by(&self, relay: &RelayConfig) -> AllowedUsers {
        let known = self.lock();
        let number = |user: &AllowedUser| match user {
            AllowedUser::Number(number) => Some(*number),
            AllowedUser::Name(name) => known.get(name).copied().flatten(),
        };
        AllowedUsers(relay.allow_users.iter().filter_map(number).collect())
    }

    /// The names of a relay that were looked up, and whether this host knows them.
    pub(super) fn looked_up(&self, relay: &RelayConfig) -> Vec<(String, bool)> {
        let known = self.lock();
        let look = |name: &str| Some((name.to_owned(), known.get(name)?.is_some()));
        named_users(relay).filter_map(look).collect()
    }

    /// Nothing that holds the lock can fail half-way through a change.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<u32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The users that a relay names by name.
fn named_users(relay: &RelayConfig) -> impl Iterator<Item = &str> {
    relay.allow_users.iter().filter_map(AllowedUser::name)
}

/// Returns the name of a user. Its number if this host knows none, or does not tell it soon.
pub(super) async fn name_of(user: u32) -> String {
    let number = || user.to_string();
    let Ok(_permit) = LOOKS.try_acquire() else { return number() };
    match timeout(PATIENCE, tasks::blocking(move || sys::user_name(user))).await {
        Ok(Ok(Some(name))) => name,
        _ => number(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_users_below_uid_min_are_system_accounts_and_nobody_is_none() {
        let accounts = [0, 1, 101, 999, 1000, 65_533, NOBODY, 65_535, u32::MAX - 1];
        let are_system = accounts.map(|user| is_system_account(user, 1000));
        assert_eq!(are_system, [true, true, true, true, false, false, false, false, false]);
        assert!(is_system_account(0, 0) && !is_system_account(1, 0));
        assert!(!is_system_account(NOBODY, u32::MAX) && is_system_account(70_000, u32::MAX));
    }

    #[test]
    fn uid_min_is_read_as_login_does() {
        assert_eq!(first_login_user(""), 1000);
        assert_eq!(first_login_user("#UID_MIN 5\n# UID_MIN 6\nSYS_UID_MIN 100\nUID_MAX 60000\n"), 1000);
        assert_eq!(first_login_user("UID_MAX 60000\n  UID_MIN\t\t\t  500\nGID_MIN 7"), 500);
        assert_eq!(first_login_user("UID_MIN"), 1000);
        assert_eq!(first_login_user("UID_MIN -1"), 1000);
    }

    #[tokio::test]
    async fn a_name_is_known_once_it_was_looked_up_and_a_number_at_once() {
        let users = UserNumbers::default();
        let named = |users: &[&str]| RelayConfig {
            allow_users: users.iter().map(|user| AllowedUser::from(*user)).collect(),
            ..RelayConfig::default()
        };
        let relay = named(&["4000000", "nobody", "there-is-no-such-user"]);
        let config = Config { relays: [("frr".to_owned(), relay.clone())].into(), ..Config::default() };
        assert!(users.looked_up(&relay).is_empty());
        assert!(users.allowed_by(&relay).has(4_000_000) && !users.allowed_by(&relay).has(4_000_001));
        assert!(users.learn(&config).await, "there is a name that this host does not know");
        let looked_up = [("nobody".to_owned(), true), ("there-is-no-such-user".to_owned(), false)];
        assert_eq!(users.looked_up(&relay), looked_up);
        assert!(users.allowed_by(&relay).has(NOBODY) && !AllowedUsers::default().has(NOBODY));
        let config = Config { relays: [("frr".to_owned(), named(&["nobody", "7"]))].into(), ..Config::default() };
        assert!(!users.learn(&config).await);
        assert!(!users.learn(&Config::default()).await);
    }
}
