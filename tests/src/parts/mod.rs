//! The parts of bmpd on the way of every route, each to run alone. `cargo bench` times them, and
//! [`crate::instructions`] counts their instructions.

mod feed;
mod parse;
mod pin;

/// A part that can run again and again.
pub trait MeasuredPart {
    /// Restores the starting state before each run. Measurements leave this out.
    fn before(&mut self) {}

    /// Runs the part once.
    fn run(&mut self);
}

impl<F: FnMut()> MeasuredPart for F {
    fn run(&mut self) {
        self();
    }
}

/// Makes a part for a table of this many routes.
type MakePart = fn(usize) -> Box<dyn MeasuredPart>;

/// The parts that work on a table of routes, each with its group and name.
pub const PARTS: [(&str, &str, MakePart); 8] = [
    ("parse", "bmp frames", parse::bmp_frames),
    ("parse", "bgp updates", parse::bgp_updates),
    ("parse", "prefixes", parse::prefixes),
    ("feed", "apply new routes", feed::apply_new),
    ("feed", "apply changed routes", feed::apply_changed),
    ("feed", "apply and follow", feed::apply_and_follow),
    ("feed", "dump", feed::dump),
    ("feed", "withdraw all routes", feed::withdraw),
];

/// Returns the resolution of a pin on a host with this many interfaces, for each form of
/// connect-interface.
#[must_use]
pub fn resolutions(interfaces: u32) -> Vec<(&'static str, Box<dyn MeasuredPart>)> {
    pin::ConnectForm::ALL.map(|connect| (connect.name(), pin::resolution(interfaces, connect))).into()
}
