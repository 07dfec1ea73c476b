//! The tasks of bmpd and how they are wired.
