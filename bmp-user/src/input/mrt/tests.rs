mod against_bgpkit;
mod as_size;
mod pacing;
mod path_ids;
mod peers;
mod routes;
mod samples;
mod trouble;
