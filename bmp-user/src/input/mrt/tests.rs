mod against_bgpkit;
mod as_size;
mod pacing;
mod peers;
mod routes;
mod samples;
mod trouble;
