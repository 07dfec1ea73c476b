//! The connections of operators: how many there may be, and which one is closed for a new operator.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::visitors::TooMany;

/// Connections at most, and those of one user.
const MOST: usize = 64;
const OF_ONE_USER: usize = 32;
/// A connection that has been idle for less than this is not closed for another.
const IDLE: Duration = Duration::from_secs(1);

/// The open connections. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct OperatorConnections(Arc<Mutex<Vec<Arc<OperatorConnection>>>>);

/// What an idle connection is good for. The lowest is closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// It has sent no request.
    Silent,
    /// It has sent requests.
    Used,
    /// It follows notices.
    Follows,
    /// Its candidate has changes that would be lost with it.
    Pending,
}

#[derive(Debug)]
struct OperatorConnection {
    user: u32,
    /// `None` while a request is answered.
    idle: Mutex<Option<(Worth, Instant)>>,
    leave: Notify,
}

impl OperatorConnections {
    /// Admits a connection of `user`. If there are too many, tells another one to leave: of those
    /// that are worth least, the one that has been idle for longest, of the same user or of the
    /// user who has most. One that is worth more never leaves in its place.
    ///
    /// # Errors
    ///
    /// There are too many, and that one has not been idle for long enough.
    pub(super) fn admit(&self, user: u32) -> Result<AdmittedConnection, TooMany> {
        let mut connections = lock(&self.0);
        let of = |user: u32| connections.iter().filter(|connection| connection.user == user).count();
        let crowded = if of(user) >= OF_ONE_USER {
            Some((user, TooMany::OfSource(OF_ONE_USER)))
        } else if connections.len() >= MOST {
            let most = connections.iter().map(|connection| connection.user).max_by_key(|user| of(*user));
            Some((most.unwrap_or(user), TooMany::AtListener(MOST)))
        } else {
            None
        };
        if let Some((user, too_many)) = crowded {
            let now = Instant::now();
            let own = connections.iter().filter(|connection| connection.user == user);
            let idle = own.filter_map(|connection| Some(((*lock(&connection.idle))?, connection)));
            let least = idle.min_by_key(|(order, _)| *order);
            let leaves = least.filter(|((_, since), _)| now.duration_since(*since) >= IDLE);
            let leaves = Arc::clone(leaves.ok_or(too_many)?.1);
            leaves.leave.notify_one();
            connections.retain(|connection| !Arc::ptr_eq(connection, &leaves));
        }
        let idle = Mutex::new(Some((Worth::Silent, Instant::now())));
        let connection = Arc::new(OperatorConnection { user, idle, leave: Notify::new() });
        connections.push(Arc::clone(&connection));
        drop(connections);
        Ok(AdmittedConnection { connections: self.clone(), connection })
    }
}

/// A connection that counts among the open ones until this is dropped.
#[derive(Debug)]
pub(super) struct AdmittedConnection {
    connections: OperatorConnections,
    connection: Arc<OperatorConnection>,
}

impl AdmittedConnection {
    /// Notes that a request is being answered.
    pub(super) fn set_busy(&self) {
        *lock(&self.connection.idle) = None;
    }

    /// Notes that the connection is idle from now on.
    pub(super) fn set_idle(&self, worth: Worth) {
        *lock(&self.connection.idle) = Some((worth, Instant::now()));
    }

    /// Returns when the connection has to make room for another.
    pub(super) async fn told_to_leave(&self) {
        self.connection.leave.notified().await;
    }
}

impl Drop for AdmittedConnection {
    fn drop(&mut self) {
        lock(&self.connections.0).retain(|connection| !Arc::ptr_eq(connection, &self.connection));
    }
}

/// Nothing that holds these locks can panic half-way through a change, so a poisoned one is still
/// whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    fn leaves(connection: &AdmittedConnection) -> bool {
        connection.told_to_leave().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_operator_gets_in_and_the_connection_that_is_worth_least_goes() {
        let connections = OperatorConnections::default();
        let mut inside: Vec<_> = (0..OF_ONE_USER).map(|_| connections.admit(0).unwrap()).collect();
        assert_eq!(connections.admit(0).unwrap_err(), TooMany::OfSource(OF_ONE_USER), "all of them have just come");
        for (number, connection) in inside.iter().enumerate() {
            let worth = [Worth::Pending, Worth::Follows, Worth::Used];
            connection.set_idle(worth[number % 3]);
        }
        inside[5].set_idle(Worth::Silent);
        inside[2].set_busy();
        advance(IDLE).await;
        let mut gone = Vec::new();
        for _ in 0..OF_ONE_USER - 1 {
            inside.push(connections.admit(0).unwrap());
            inside.last().unwrap().set_busy();
            gone.extend((0..OF_ONE_USER).find(|number| leaves(&inside[*number])));
        }
        let by_worth = [5].into_iter().chain((8..32).step_by(3)).chain((1..32).step_by(3)).chain((0..32).step_by(3));
        assert_eq!(gone, by_worth.collect::<Vec<_>>());
        connections.admit(0).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_used_connection_does_not_leave_where_a_silent_one_soon_can() {
        let connections = OperatorConnections::default();
        let used: Vec<_> = (1..OF_ONE_USER).map(|_| connections.admit(0).unwrap()).collect();
        used.iter().for_each(|connection| connection.set_idle(Worth::Used));
        advance(IDLE).await;
        let silent = connections.admit(0).unwrap();
        assert_eq!(connections.admit(0).unwrap_err(), TooMany::OfSource(OF_ONE_USER));
        assert!(!used.iter().any(leaves));
        advance(IDLE).await;
        let _new = connections.admit(0).unwrap();
        assert!(leaves(&silent) && !used.iter().any(leaves));
    }

    #[tokio::test(start_paused = true)]
    async fn the_user_with_most_connections_makes_room_for_another_user() {
        let connections = OperatorConnections::default();
        let of_users: Vec<_> =
            (0..MOST).map(|number| connections.admit(if number < 24 { 1 } else { 2 + number as u32 / 48 })).collect();
        advance(IDLE).await;
        let new = connections.admit(0).unwrap();
        assert!(leaves(of_users[0].as_ref().unwrap()) || leaves(of_users[24].as_ref().unwrap()));
        drop((of_users, new));
        assert!(lock(&connections.0).is_empty());
    }
}
