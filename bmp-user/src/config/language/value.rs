//! The value of one argument.

use std::{net::IpAddr, time::Duration};

use super::{
    secret::Secret,
    utc::{TimeOfDay, UtcDate},
};
use crate::config::prefix::Prefix;

/// The value of one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum ArgumentValue {
    Text(String),
    Secret(Secret),
    Address(IpAddr),
    Time(Duration),
    Number(u32),
    Prefix(Prefix),
    TimeOfDay(TimeOfDay),
    Date(UtcDate),
    /// No argument, but the keyword that one of several forms begins with; see
    /// [`fill`](super::token::fill).
    Keyword(&'static str),
}
