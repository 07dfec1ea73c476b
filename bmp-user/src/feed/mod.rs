//! All that the device knows and has to tell: its peers, and the journal of BMP frames that every session follows.
