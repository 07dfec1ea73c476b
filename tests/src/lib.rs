//! The lab: hosts, stations, feeders and other daemons for the integration tests.
