mod claims;
mod end_of_rib;
mod sockets;
mod streams;
