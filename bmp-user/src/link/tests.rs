//! The table and the routes against the kernel, in network namespaces.

mod marks;
pub(super) mod namespace;
mod routes;
mod steering;
mod table;
mod trouble;
