//! bmpd's displays and the kernel maps, in the model's terms.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use aya::maps::{Array, HashMap, Map, MapData};
use bmp_ebpf::{InetFamily, PIN_DENY, PIN_LIVE, PIN_SOURCE, Pin, PinKey, VERSION, table};
use lab::bmpd::{Bmpd, array, number};
use serde_json::Value;

use super::{
    configuration::{ModelConfiguration, ModelSessionId},
    reference::{SessionGrant, SessionOutcome},
};

/// A session in `display bmp session` and `display interface-binding`.
#[derive(Clone, Debug)]
pub(crate) struct DisplayedSession {
    pub(crate) state: String,
    pub(crate) phase: String,
    pub(crate) reason: String,
    pub(crate) established: u64,
    pub(crate) local: Option<SocketAddr>,
    /// `ready`, or the reason why not.
    pub(crate) binding: String,
    pub(crate) source: Option<IpAddr>,
    /// Interfaces in both displays, which must agree.
    pub(crate) egress: [BTreeSet<String>; 2],
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// Reads all configured sessions. Missing and duplicate ones are errors.
pub(crate) fn shown(
    bmpd: &Bmpd,
    configuration: &ModelConfiguration,
) -> Result<BTreeMap<ModelSessionId, DisplayedSession>, String> {
    let bindings = array(bmpd.display_json("display interface-binding"));
    let sessions = bmpd.sessions();
    if sessions.len() != configuration.sessions.len() || bindings.len() != sessions.len() {
        return Err(format!("{} sessions and {} bindings are displayed", sessions.len(), bindings.len()));
    }
    configuration.sessions.keys().map(|id| Ok((*id, one(id, &sessions, &bindings)?))).collect()
}

fn one(id: &ModelSessionId, sessions: &[Value], bindings: &[Value]) -> Result<DisplayedSession, String> {
    let is = |value: &&Value| value["station"] == id.station.to_string() && value["alias"] == id.alias;
    let find = |values: &[Value]| values.iter().find(is).cloned().ok_or_else(|| format!("{id:?} is not displayed"));
    let (session, binding) = (find(sessions)?, find(bindings)?);
    let address = |value: &Value| value.as_str().and_then(|address| address.parse::<IpAddr>().ok());
    let port = session["local_port"].as_u64().and_then(|port| u16::try_from(port).ok());
    Ok(DisplayedSession {
        state: text(&session["state"]),
        phase: text(&session["phase"]),
        reason: text(&session["reason"]),
        established: number(&session["established_count"]),
        local: address(&session["local_address"]).zip(port).map(SocketAddr::from),
        binding: text(&binding["state"]),
        source: address(&binding["source"]),
        egress: [names(&session["egress"]["interfaces"]), names(&binding["egress"])],
    })
}

/// Reads the kernel maps from the BPF file system: each station's address and port with its pin.
pub(crate) fn pins(bpffs: &Path) -> Result<BTreeMap<SocketAddr, Pin>, String> {
    let folder = bpffs.join(format!("v{VERSION}/tables"));
    let open = |name: &str| MapData::from_pin(folder.join(name)).map_err(|e| format!("table {name}: {e}"));
    let keys: HashMap<_, PinKey, u32> =
        Map::HashMap(open(table::PINS)?).try_into().map_err(|e| format!("table PINS: {e}"))?;
    let slots: Array<_, Pin> = Map::Array(open(table::SLOTS)?).try_into().map_err(|e| format!("table SLOTS: {e}"))?;
    let mut pins = BTreeMap::new();
    for entry in keys.iter() {
        let (key, slot) = entry.map_err(|e| format!("table PINS: {e}"))?;
        let pin = slots.get(&slot, 0).map_err(|e| format!("slot {slot}: {e}"))?;
        let station = SocketAddr::new(address(&key)?, key.port);
        if pins.insert(station, pin).is_some() {
            return Err(format!("{station} has two keys"));
        }
    }
    Ok(pins)
}

fn address(key: &PinKey) -> Result<IpAddr, String> {
    match key.family {
        InetFamily::IPV4 => Ok(IpAddr::from(key.station.first_octets())),
        InetFamily::IPV6 => Ok(IpAddr::from(*key.station.octets())),
        family => Err(format!("a key of family {}", family.number())),
    }
}

/// Returns the pin for an outcome. It copies from the present pin the fields that the model
/// ignores: the generation, and the source of a denying pin.
pub(crate) fn pin(outcome: &SessionOutcome, there: &Pin) -> Pin {
    let empty = Pin { generation: there.generation, flags: PIN_LIVE, ..Pin::default() };
    match outcome {
        SessionOutcome::Down(_) => Pin { flags: PIN_LIVE | PIN_DENY, source: there.source, ..empty },
        SessionOutcome::Up(SessionGrant { source, device, egress, .. }) => {
            let mut pin = Pin { device: device.unwrap_or(0), egress_count: egress.len() as u32, ..empty };
            for (place, index) in pin.egress.iter_mut().zip(egress) {
                *place = *index;
            }
            match source {
                Some(ip) => pin.source = (*ip).into(),
                None => return pin,
            }
            pin.flags |= PIN_SOURCE;
            pin
        }
    }
}
