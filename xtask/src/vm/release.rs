//! The Debian releases whose kernels the machine boots.

use std::fmt;

use crate::packages;

/// A release of Debian whose kernel can be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DebianRelease {
    /// Debian 12: Linux 6.1
    #[value(name = "12")]
    Twelve,
    /// Debian 13: Linux 6.12
    #[value(name = "13")]
    Thirteen,
    /// Debian testing: the newest
    Testing,
}

impl DebianRelease {
    pub(crate) const ALL: [Self; 3] = [Self::Twelve, Self::Thirteen, Self::Testing];

    /// Returns this host's own; testing for other hosts.
    pub(crate) fn of_host() -> Self {
        Self::of(packages::codename().as_deref())
    }

    fn of(codename: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|release| codename == Some(release.suite())).unwrap_or(Self::Testing)
    }

    /// Returns its name in the archive.
    pub(super) fn suite(self) -> &'static str {
        match self {
            Self::Twelve => "bookworm",
            Self::Thirteen => "trixie",
            Self::Testing => "testing",
        }
    }
}

impl fmt::Display for DebianRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Twelve => "12",
            Self::Thirteen => "13",
            Self::Testing => "testing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_gets_the_kernel_of_its_own_release() {
        assert_eq!(DebianRelease::of(Some("bookworm")), DebianRelease::Twelve);
        assert_eq!(DebianRelease::of(Some("trixie")), DebianRelease::Thirteen);
        assert_eq!(DebianRelease::of(Some("forky")), DebianRelease::Testing);
        assert_eq!(DebianRelease::of(None), DebianRelease::Testing);
    }
}
