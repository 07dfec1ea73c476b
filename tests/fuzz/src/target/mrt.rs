//! MRT: records and their contents.

use bmp_user::wire::mrt::{HEADER, Record, RecordAttributes, RecordBody, records};
use bytes::BytesMut;

use super::is_within;
use crate::memory::within;

/// Reads an unpacked file. Its records must be its beginning, and everything must be borrowed from
/// it.
pub fn mrt(file: &[u8]) {
    let mut whole = records(file);
    let mut at = 0;
    for record in whole.by_ref() {
        match record {
            Ok(record) => {
                assert_eq!(record.bytes(), &file[at..at + record.bytes().len()]);
                at += record.bytes().len();
                within(4096, 4, record.bytes().len(), || body(&record));
            }
            Err(error) => {
                assert!((at as u64..file.len() as u64).contains(&error.offset), "{error}");
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert_eq!(whole.consumed(), at);
}

fn body(record: &Record<'_>) {
    let bytes = record.bytes();
    match RecordBody::parse(record) {
        Ok(RecordBody::TableDump(route)) => {
            let mut out = BytesMut::new();
            route.put_nlri(&mut out);
            assert_eq!(out.len(), 1 + usize::from(route.prefix_length.div_ceil(8)));
            attributes(&route.attributes, bytes);
        }
        Ok(RecordBody::PeerIndexTable(table)) => {
            assert!(is_within(table.view, bytes));
            assert_eq!(table.iter().count(), table.len(), "the count of entries is wrong");
        }
        Ok(RecordBody::Rib(rib)) => {
            assert!(is_within(rib.nlri, bytes));
            assert_eq!(rib.iter().count(), rib.len(), "the count of entries is wrong");
            for entry in rib.iter() {
                assert_eq!(entry.path_id.is_some(), rib.add_path);
                attributes(&entry.attributes, bytes);
            }
        }
        Ok(RecordBody::Message(message)) => assert!(bytes.ends_with(message.message)),
        Ok(RecordBody::StateChange(_) | RecordBody::Other) => {}
        Err(error) => {
            assert!((HEADER as u64..=bytes.len() as u64).contains(&error.offset), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
}

fn attributes(attributes: &RecordAttributes<'_>, record: &[u8]) {
    assert!(is_within(attributes.bytes(), record));
    let whole: usize = attributes.iter().map(|attribute| attribute.bytes.len()).sum();
    assert_eq!(whole + attributes.rest().len(), attributes.bytes().len());
    match attributes.mp_next_hop() {
        Ok(Some(next_hop)) => assert!(is_within(next_hop.next_hop, record)),
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert_eq!(RecordAttributes::new(attributes.bytes()), *attributes);
}
