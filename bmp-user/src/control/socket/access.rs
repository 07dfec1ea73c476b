//! Who may do what on the control socket.
//!
//! Root, the user of bmpd and the members of a group may configure. The members of a second group
//! may look. The kernel says who a client is (unix(7), `SO_PEERCRED` and `SO_PEERGROUPS`).

use std::os::fd::AsRawFd;

use crate::sys;

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorRole {
    /// Everything.
    Configure,
    /// Displays alone.
    View,
}

/// The groups whose members may use the control socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessGroups {
    /// The members of this group may configure. `None` if there is no such group.
    pub configure: Option<u32>,
    /// The members of this group may look.
    pub view: Option<u32>,
}

impl AccessGroups {
    /// Returns the groups with these names. A group that does not exist has no members. May block.
    pub fn named(configure: &str, view: &str) -> Self {
        Self { configure: sys::group_named(configure), view: sys::group_named(view) }
    }

    /// Returns the mode of the socket. The members of two groups can connect only if all users can.
    pub(super) fn mode(self) -> u32 {
        if self.view.is_some() { 0o666 } else { 0o660 }
    }

    /// Returns what the client of a connection may do. `None` for nothing.
    pub(super) fn role(self, user: u32, client: &impl AsRawFd) -> Option<OperatorRole> {
        // A client whose groups cannot be read is in none.
        let groups = sys::peer_groups(client).unwrap_or_default();
        self.role_of(user, &groups, sys::user(), sys::group())
    }

    fn role_of(self, user: u32, groups: &[u32], own_user: u32, own_group: u32) -> Option<OperatorRole> {
        let is_in = |group: Option<u32>| group.is_some_and(|group| groups.contains(&group));
        if user == 0 || user == own_user || is_in(self.configure) || is_in(Some(own_group)) {
            Some(OperatorRole::Configure)
        } else if is_in(self.view) {
            Some(OperatorRole::View)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_one_group_configure_and_another_group_looks() {
        let groups = AccessGroups { configure: Some(100), view: Some(200) };
        let role = |user, of: &[u32]| groups.role_of(user, of, 990, 990);
        for (user, of) in [(0, &[0][..]), (990, &[990]), (1000, &[1000, 100]), (1000, &[100, 200]), (1000, &[990])] {
            assert_eq!(role(user, of), Some(OperatorRole::Configure), "{user} {of:?}");
        }
        assert_eq!(role(1000, &[1000, 200]), Some(OperatorRole::View));
        assert_eq!(role(1000, &[1000]), None);
        let none = AccessGroups::default();
        assert_eq!(none.role_of(1000, &[100, 200], 0, 0), None);
        assert_eq!((none.mode(), groups.mode()), (0o660, 0o666));
    }
}
