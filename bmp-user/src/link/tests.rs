//! The watch, the route lookup and steering against the real kernel, in network namespaces.

mod marks;
pub(super) mod namespace;
mod routes;
mod steering;
mod table;
mod trouble;
