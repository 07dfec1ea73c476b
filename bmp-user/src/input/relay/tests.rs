mod sockets;
mod streams;
