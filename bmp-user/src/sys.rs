//! The few socket options that no library of ours has.
