//! `display bmp feed`: the peers, routes and journal that stations are told from.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{layout::rows, monitored::name_of};
use crate::feed;

/// The feed. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Feed {
    pub(super) peers: usize,
    pub(super) ribs: usize,
    pub(super) routes: usize,
    /// The routes of all peers, by RIB and family.
    pub(super) by_rib: Vec<ByRib>,
    pub(super) attribute_sets: usize,
    pub(super) withdrawals: usize,
    pub(super) journal: Journal,
    pub(super) memory: Memory,
    pub(super) frames: u64,
    pub(super) unannounced: u64,
    pub(super) malformed: u64,
    pub(super) mixed_path_ids: u64,
    pub(super) malformed_attributes: u64,
    pub(super) as_size: u64,
    pub(super) incomplete: u64,
    pub(super) unknown_family: u64,
    pub(super) overflowed: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ByRib {
    pub(super) family: String,
    pub(super) view: &'static str,
    /// How many peers have such a RIB.
    pub(super) ribs: usize,
    pub(super) routes: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Journal {
    pub(super) tail: u64,
    pub(super) head: u64,
    pub(super) bytes: usize,
    pub(super) limit: usize,
}

/// In bytes.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Memory {
    pub(super) routes: usize,
    pub(super) groups: usize,
    pub(super) attribute_sets: usize,
    pub(super) withdrawals: usize,
    pub(super) journal: usize,
}

impl Feed {
    pub(super) fn of(feed: &feed::Feed) -> Self {
        let stats = &feed.stats();
        let mut by_rib = BTreeMap::new();
        for peer in feed.peers() {
            for rib in peer.ribs() {
                let (ribs, routes) = by_rib.entry((rib.family, rib.view)).or_insert((0, 0));
                *ribs += 1;
                *routes += rib.routes;
            }
        }
        let by_rib = by_rib.into_iter().map(|((family, view), (ribs, routes))| ByRib {
            family: family.to_string(),
            view: name_of(view),
            ribs,
            routes,
        });
        Self {
            by_rib: by_rib.collect(),
            peers: stats.peers,
            ribs: stats.ribs,
            routes: stats.routes,
            attribute_sets: stats.attribute_sets,
            withdrawals: stats.withdrawals,
            journal: Journal {
                tail: stats.tail,
                head: stats.head,
                bytes: stats.journal_bytes,
                limit: stats.journal_limit,
            },
            memory: Memory {
                routes: stats.route_bytes,
                groups: stats.group_bytes,
                attribute_sets: stats.attribute_bytes,
                withdrawals: stats.withdrawal_bytes,
                journal: stats.journal_bytes,
            },
            frames: stats.frames.total(),
            unannounced: stats.trouble.unannounced,
            malformed: stats.trouble.malformed,
            mixed_path_ids: stats.trouble.mixed_path_ids,
            malformed_attributes: stats.trouble.malformed_attributes,
            as_size: stats.trouble.as_size,
            incomplete: stats.trouble.incomplete,
            unknown_family: stats.trouble.unknown_family,
            overflowed: stats.trouble.overflowed,
        }
    }

    pub(super) fn text(&self) -> String {
        let Self { journal, memory, .. } = self;
        let bytes = |bytes: usize| format!("{} KiB", bytes.div_ceil(1024));
        let head = rows(
            " What there is to tell stations\n",
            &[
                ("Peers up", self.peers.to_string()),
                ("RIBs", self.ribs.to_string()),
                ("Routes", self.routes.to_string()),
            ],
        );
        let by_rib: String = self
            .by_rib
            .iter()
            .map(|ByRib { family, view, ribs, routes }| format!("    {family} {view}: {routes}, of {ribs} peers\n"))
            .collect();
        let rest = rows(
            "",
            &[
                ("Attribute sets", self.attribute_sets.to_string()),
                ("Withdrawals kept", self.withdrawals.to_string()),
                (
                    "Journal",
                    format!(
                        "messages {} to {}, {} of {}",
                        journal.tail,
                        journal.head,
                        bytes(journal.bytes),
                        bytes(journal.limit)
                    ),
                ),
                ("Memory of routes", bytes(memory.routes)),
                ("  of groups", bytes(memory.groups)),
                ("  of attributes", bytes(memory.attribute_sets)),
                ("  of withdrawals", format!("{} (of that of routes)", bytes(memory.withdrawals))),
                ("Messages", self.frames.to_string()),
                ("  of unknown peers", self.unannounced.to_string()),
                ("  malformed", self.malformed.to_string()),
                ("  mixed path IDs", self.mixed_path_ids.to_string()),
                ("  bad attributes", self.malformed_attributes.to_string()),
                ("  other AS size", self.as_size.to_string()),
                ("  lack attributes", self.incomplete.to_string()),
                ("  unknown family", self.unknown_family.to_string()),
                ("  not kept", self.overflowed.to_string()),
            ],
        );
        format!("{head}{by_rib}{rest}")
    }
}
