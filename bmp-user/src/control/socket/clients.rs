//! The connections of operators: how many there may be, and which one goes so that a new operator gets in.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::visitors::TooMany;

/// Connections at most, and those of one user.
const MOST: usize = 64;
const OF_ONE_USER: usize = 32;
/// One that has been idle for less than this is not closed for another.
const IDLE: Duration = Duration::from_secs(1);

/// The connections that there are. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients(Arc<Mutex<Vec<Arc<Client>>>>);

/// What a connection is good for while nothing is asked there: the lowest is closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// Nothing was ever asked.
    Silent,
    /// Something was.
    Used,
    /// It is told what operators are told.
    Follows,
    /// Changes are pending that would be gone with it.
    Pending,
}

#[derive(Debug)]
struct Client {
    user: u32,
    /// `None` while something is asked or answered.
    idle: Mutex<Option<(Worth, Instant)>>,
    leave: Notify,
}

impl Clients {
    /// Lets a connection in. Where there are too many, the one that is worth least and has been idle for longest is told to leave: of the same
    /// user, or of the one who has most.
    pub(super) fn admit(&self, user: u32) -> Result<Admitted, TooMany> {
        let mut clients = lock(&self.0);
        let of = |user: u32| clients.iter().filter(|client| client.user == user).count();
        let crowded = if of(user) >= OF_ONE_USER {
            Some((user, TooMany::OfSource(OF_ONE_USER)))
        } else if clients.len() >= MOST {
            let most = clients.iter().map(|client| client.user).max_by_key(|user| of(*user));
            Some((most.unwrap_or(user), TooMany::AtListener(MOST)))
        } else {
            None
        };
        if let Some((user, too_many)) = crowded {
            let now = Instant::now();
            let idle = clients.iter().filter(|client| client.user == user).filter_map(|client| {
                let (worth, since) = (*lock(&client.idle))?;
                (now.duration_since(since) >= IDLE).then_some(((worth, since), client))
            });
            let (_, leaves) = idle.min_by_key(|(order, _)| *order).ok_or(too_many)?;
            let leaves = Arc::clone(leaves);
            leaves.leave.notify_one();
            clients.retain(|client| !Arc::ptr_eq(client, &leaves));
        }
        let idle = Mutex::new(Some((Worth::Silent, Instant::now())));
        let client = Arc::new(Client { user, idle, leave: Notify::new() });
        clients.push(Arc::clone(&client));
        drop(clients);
        Ok(Admitted { clients: self.clone(), client })
    }
}

/// A connection that was let in, for as long as this lives.
#[derive(Debug)]
pub(super) struct Admitted {
    clients: Clients,
    client: Arc<Client>,
}

impl Admitted {
    /// Something is asked.
    pub(super) fn is_busy(&self) {
        *lock(&self.client.idle) = None;
    }

    /// Nothing is asked from now on.
    pub(super) fn is_idle(&self, worth: Worth) {
        *lock(&self.client.idle) = Some((worth, Instant::now()));
    }

    /// Returns when the connection has to make room for another.
    pub(super) async fn told_to_leave(&self) {
        self.client.leave.notified().await;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        lock(&self.clients.0).retain(|client| !Arc::ptr_eq(client, &self.client));
    }
}

/// Nothing that holds these locks can panic half-way through a change, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    fn leaves(client: &Admitted) -> bool {
        client.told_to_leave().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_operator_gets_in_and_the_connection_that_is_worth_least_goes() {
        let clients = Clients::default();
        let mut inside: Vec<_> = (0..OF_ONE_USER).map(|_| clients.admit(0).unwrap()).collect();
        assert_eq!(clients.admit(0).unwrap_err(), TooMany::OfSource(OF_ONE_USER), "all of them have just come");
        for (number, client) in inside.iter().enumerate() {
            let worth = [Worth::Pending, Worth::Follows, Worth::Used];
            client.is_idle(worth[number % 3]);
        }
        inside[5].is_idle(Worth::Silent);
        inside[2].is_busy();
        advance(IDLE).await;
        let mut gone = Vec::new();
        for _ in 0..OF_ONE_USER - 1 {
            inside.push(clients.admit(0).unwrap());
            inside.last().unwrap().is_busy();
            gone.extend((0..OF_ONE_USER).find(|number| leaves(&inside[*number])));
        }
        let by_worth = [5].into_iter().chain((8..32).step_by(3)).chain((1..32).step_by(3)).chain((0..32).step_by(3));
        assert_eq!(gone, by_worth.collect::<Vec<_>>());
        clients.admit(0).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_most_makes_room_for_another_user() {
        let clients = Clients::default();
        let of_users: Vec<_> =
            (0..MOST).map(|number| clients.admit(if number < 24 { 1 } else { 2 + number as u32 / 48 })).collect();
        advance(IDLE).await;
        let new = clients.admit(0).unwrap();
        assert!(leaves(of_users[0].as_ref().unwrap()) || leaves(of_users[24].as_ref().unwrap()));
        drop((of_users, new));
        assert!(lock(&clients.0).is_empty());
    }
}
