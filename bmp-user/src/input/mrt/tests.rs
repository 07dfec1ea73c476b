mod against_bgpkit;
mod pacing;
mod peers;
mod routes;
mod samples;
mod trouble;
