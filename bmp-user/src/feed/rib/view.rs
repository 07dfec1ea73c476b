//! Which RIB of a peer.

/// One RIB of a peer (RFC 7854 §4.2, RFC 8671 §4, RFC 9069 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// Adj-RIB-In before policy.
    AdjRibInPre,
    /// Adj-RIB-In after policy.
    AdjRibInPost,
    /// Adj-RIB-Out before policy.
    AdjRibOutPre,
    /// Adj-RIB-Out after policy.
    AdjRibOutPost,
    /// Loc-RIB.
    LocRib,
}
