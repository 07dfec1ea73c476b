//! What the programs do to real connections, in network namespaces. These tests need root and a cgroup v2 file system.

mod book;
mod connect;
mod events;
mod extensions;
mod final_ends;
mod frames;
mod guard;
mod listener;
mod packet_path;
mod packets;
mod persistence;
mod rewriter;
mod tables;
mod world;
