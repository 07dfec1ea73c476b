//! The settings of the tls profile view.

use std::path::Path;

use super::{
    access::{Entries, field},
    descriptor::{DefaultValue, SettingDescriptor},
    effect::Effect,
    forms::TLS_PROFILE_NAME,
};
use crate::config::{
    language::{
        argument::ArgumentKind,
        syntax::Syntax::{Value, Word},
    },
    model::Config,
    tls::TlsProfileConfig,
    view::{CommandView, ViewKind},
};

pub(in crate::config) static TLS_PROFILE: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("tls", "TLS 1.3 on TCP connections"),
        Word("profile", "whom to trust, and how to prove who this device is"),
        TLS_PROFILE_NAME,
    ],
    enters: Some(ViewKind::TlsProfile),
    effect: Effect::Enters,
    access: &Entries::<Config, String, TlsProfileConfig> {
        get: |config| &config.tls_profiles,
        get_mut: |config| &mut config.tls_profiles,
        check: |_, _| Ok(()),
        view: |_, name| Some(CommandView::TlsProfile(name)),
    },
    ..SettingDescriptor::in_view(ViewKind::System)
};

/// Refuses a path that depends on the folder that bmpd was started in.
fn is_absolute(path: &Path) -> Result<(), String> {
    if path.is_absolute() { Ok(()) } else { Err("give the whole path of the file, from `/` on".to_owned()) }
}

pub(in crate::config) static TRUSTED_CA: SettingDescriptor = SettingDescriptor {
    head: &[Word("trusted-ca", "the certificates that the far end's must lead to, in PEM")],
    value: &[Value(ArgumentKind::Path, "the whole path of the file")],
    default: DefaultValue::Fixed(
        "none; `tcp connect` needs it or `fingerprint`, and a listener asks for no certificate",
    ),
    effect: Effect::TlsNextHandshake,
    access: field!(TlsProfileConfig, trusted_ca, |_, _, path| is_absolute(path)),
    ..SettingDescriptor::in_view(ViewKind::TlsProfile)
};

pub(in crate::config) static CERTIFICATE: SettingDescriptor = SettingDescriptor {
    head: &[Word("certificate", "the certificate of this device, and those between it and the CA, in PEM")],
    value: &[Value(ArgumentKind::Path, "the whole path of the file")],
    default: DefaultValue::Fixed("none; a listener needs one"),
    effect: Effect::TlsNextHandshake,
    note: "bmpd reads the files of a profile again when they change, within a minute, and at SIGHUP.",
    access: field!(TlsProfileConfig, certificate, |_, _, path| is_absolute(path)),
    ..SettingDescriptor::in_view(ViewKind::TlsProfile)
};

pub(in crate::config) static PRIVATE_KEY: SettingDescriptor = SettingDescriptor {
    head: &[Word("private-key", "the key of the certificate, in PEM")],
    value: &[Value(ArgumentKind::Path, "the whole path of the file")],
    default: DefaultValue::Fixed("none; `certificate` needs it"),
    effect: Effect::TlsNextHandshake,
    access: field!(TlsProfileConfig, private_key, |_, _, path| is_absolute(path)),
    ..SettingDescriptor::in_view(ViewKind::TlsProfile)
};

pub(in crate::config) static VERIFY_NAME: SettingDescriptor = SettingDescriptor {
    head: &[Word("verify-name", "the name that the far end's certificate must have")],
    value: &[Value(ArgumentKind::VerifyName, "a DNS name or an address")],
    default: DefaultValue::Fixed(
        "`tcp connect`: the address of the station; a listener: any name that `trusted-ca` vouches for",
    ),
    effect: Effect::TlsNextHandshake,
    note: "It needs `trusted-ca` or `fingerprint`.",
    access: field!(TlsProfileConfig, verify_name),
    ..SettingDescriptor::in_view(ViewKind::TlsProfile)
};

pub(in crate::config) static FINGERPRINT: SettingDescriptor = SettingDescriptor {
    head: &[
        Word("fingerprint", "the one certificate that the far end may have"),
        Word("sha256", "by the SHA-256 of its DER form"),
    ],
    value: &[Value(ArgumentKind::Fingerprint, "as `openssl x509 -fingerprint -sha256` prints it")],
    default: DefaultValue::Fixed("any certificate that `trusted-ca` and `verify-name` allow"),
    effect: Effect::TlsNextHandshake,
    note: "With it, a profile needs no CA, and names count only if `verify-name` is there.",
    access: field!(TlsProfileConfig, fingerprint),
    ..SettingDescriptor::in_view(ViewKind::TlsProfile)
};
