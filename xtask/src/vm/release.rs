//! The Debian releases whose kernels the machine boots.

use std::fmt;

use crate::packages;

/// A release of Debian, for its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Release {
    /// Debian 12: Linux 6.1
    #[value(name = "12")]
    Twelve,
    /// Debian 13: Linux 6.12
    #[value(name = "13")]
    Thirteen,
    /// Debian testing: the newest
    Testing,
}

impl Release {
    pub(crate) const ALL: [Self; 3] = [Self::Twelve, Self::Thirteen, Self::Testing];

    /// This host's own; testing where the host is a later Debian.
    pub(crate) fn of_host() -> Self {
        Self::of(packages::codename().as_deref())
    }

    fn of(codename: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|release| codename == Some(release.suite())).unwrap_or(Self::Testing)
    }

    /// Its name in the archive.
    pub(super) fn suite(self) -> &'static str {
        match self {
            Self::Twelve => "bookworm",
            Self::Thirteen => "trixie",
            Self::Testing => "testing",
        }
    }
}

impl fmt::Display for Release {
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
    fn a_host_without_a_word_gets_the_kernel_of_its_own_release() {
        assert_eq!(Release::of(Some("bookworm")), Release::Twelve);
        assert_eq!(Release::of(Some("trixie")), Release::Thirteen);
        assert_eq!(Release::of(Some("forky")), Release::Testing);
        assert_eq!(Release::of(None), Release::Testing);
    }
}
