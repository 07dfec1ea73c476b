mod claims;
mod end_of_rib;
mod proxies;
mod sockets;
mod streams;
