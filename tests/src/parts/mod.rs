//! The parts of bmpd that every route goes through, each ready to be run alone: what `cargo bench` times, and what is counted in
//! instructions ([`crate::instructions`]).

mod feed;
mod parse;
mod pin;

/// Something that is run again and again.
pub trait Part {
    /// Puts back what has to be as it was, each time before it is run. It is no part of what is measured.
    fn before(&mut self) {}

    /// Does it once.
    fn run(&mut self);
}

impl<F: FnMut()> Part for F {
    fn run(&mut self) {
        self();
    }
}

/// How a part is made for a table of so many routes.
type Make = fn(usize) -> Box<dyn Part>;

/// The parts that take a table of routes, by their group and their name.
pub const PARTS: [(&str, &str, Make); 8] = [
    ("parse", "bmp frames", parse::bmp_frames),
    ("parse", "bgp updates", parse::bgp_updates),
    ("parse", "prefixes", parse::prefixes),
    ("feed", "apply new routes", feed::apply_new),
    ("feed", "apply changed routes", feed::apply_changed),
    ("feed", "apply and follow", feed::apply_and_follow),
    ("feed", "dump", feed::dump),
    ("feed", "withdraw all routes", feed::withdraw),
];

/// What a pin comes to on a host with so many interfaces, by the form of its connect-interface.
#[must_use]
pub fn resolutions(interfaces: u32) -> Vec<(&'static str, Box<dyn Part>)> {
    pin::Connect::ALL.map(|connect| (connect.name(), pin::resolution(interfaces, connect))).into()
}
