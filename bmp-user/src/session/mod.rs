//! One station: connect, tell it what is in force, follow the journal, back off.
