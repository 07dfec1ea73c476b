//! The programs with real connections, in network namespaces. These tests need root and a cgroup v2
//! file system.

mod connect;
mod events;
mod extensions;
mod final_ends;
mod frames;
mod listener;
mod packet_path;
mod packets;
mod persistence;
mod restored_tables;
mod rewriter;
mod stack;
mod tables;
mod world;
mod xdp_guards;
