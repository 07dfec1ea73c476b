//! Answers in JSON: which there are, what stands around the data of each, and its version.
//!
//! An answer is an object: `{"schema": "bmp-session", "schema_version": 1, "data": [...]}`.
//! `docs/reference/json.md` describes the data, and what may change without a new version.

use std::{
    cell::Cell,
    io::{self, Write},
};

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};

/// The version of the JSON of all answers. It rises by one when a field goes, or when its type,
/// unit or meaning changes, or when it may be null and never was before.
pub const SCHEMA_VERSION: u32 = 1;

/// What an answer in JSON is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerSubject {
    /// `display bmp session`.
    BmpSession,
    /// `display interface-binding`.
    InterfaceBinding,
    /// `display bgp peer`.
    BgpPeer,
    /// `display bgp bmp-monitor all`, or one peer by its address.
    BgpBmpMonitor,
    /// `display bmp feed`.
    BmpFeed,
    /// `display bmp relay`.
    BmpRelay,
    /// `display mrt-replay`.
    MrtReplay,
    /// `display configuration trial`.
    ConfigurationTrial,
    /// `display configuration commit list`.
    ConfigurationCommitList,
    /// `display http`.
    Http,
    /// `display version`.
    Version,
    /// `display logbuffer`.
    LogBuffer,
    /// `display debugging`.
    Debugging,
    /// `commit` and the other commands that change the configuration in force.
    Commit,
    /// `bmpd doctor`.
    Doctor,
    /// `/api/v1`.
    ApiIndex,
    /// `/api/v1/events`.
    ApiEvents,
}

impl AnswerSubject {
    /// All subjects, in the order of `docs/reference/json.md`.
    pub const ALL: [Self; 17] = [
        Self::BmpSession,
        Self::InterfaceBinding,
        Self::BgpPeer,
        Self::BgpBmpMonitor,
        Self::BmpFeed,
        Self::BmpRelay,
        Self::MrtReplay,
        Self::ConfigurationTrial,
        Self::ConfigurationCommitList,
        Self::Http,
        Self::Version,
        Self::LogBuffer,
        Self::Debugging,
        Self::Commit,
        Self::Doctor,
        Self::ApiIndex,
        Self::ApiEvents,
    ];

    /// Returns the name of the schema, as answers bear it.
    pub fn name(self) -> &'static str {
        self.name_and_source().0
    }

    /// Returns what gives the answer: a command, or a path of the HTTP server. It is the title of
    /// the subject's section in `docs/reference/json.md`.
    pub fn source(self) -> &'static str {
        self.name_and_source().1
    }

    fn name_and_source(self) -> (&'static str, &'static str) {
        match self {
            Self::BmpSession => ("bmp-session", "display bmp session"),
            Self::InterfaceBinding => ("interface-binding", "display interface-binding"),
            Self::BgpPeer => ("bgp-peer", "display bgp peer"),
            Self::BgpBmpMonitor => ("bgp-bmp-monitor", "display bgp bmp-monitor all"),
            Self::BmpFeed => ("bmp-feed", "display bmp feed"),
            Self::BmpRelay => ("bmp-relay", "display bmp relay"),
            Self::MrtReplay => ("mrt-replay", "display mrt-replay"),
            Self::ConfigurationTrial => ("configuration-trial", "display configuration trial"),
            Self::ConfigurationCommitList => ("configuration-commit-list", "display configuration commit list"),
            Self::Http => ("http", "display http"),
            Self::Version => ("version", "display version"),
            Self::LogBuffer => ("logbuffer", "display logbuffer"),
            Self::Debugging => ("debugging", "display debugging"),
            Self::Commit => ("commit", "commit"),
            Self::Doctor => ("doctor", "bmpd doctor"),
            Self::ApiIndex => ("api", "/api/v1"),
            Self::ApiEvents => ("api-events", "/api/v1/events"),
        }
    }
}

/// An answer in JSON, with what stands around its data.
#[derive(Clone, Debug, Serialize)]
pub struct JsonAnswer<T> {
    schema: &'static str,
    schema_version: u32,
    data: T,
}

impl<T: Serialize> JsonAnswer<T> {
    /// Makes an answer.
    pub fn new(subject: AnswerSubject, data: T) -> Self {
        Self { schema: subject.name(), schema_version: SCHEMA_VERSION, data }
    }

    /// Writes the answer on several lines, with a line end.
    ///
    /// # Errors
    ///
    /// The writer fails.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

/// Elements that become an array of JSON one after another, each when it is written. They can be
/// serialized once.
pub(super) struct Elements<I>(Cell<Option<I>>);

impl<I> Elements<I> {
    pub(super) fn new(elements: I) -> Self {
        Self(Cell::new(Some(elements)))
    }
}

impl<I: Iterator> Elements<I> {
    /// Returns the elements; none if they were taken or serialized before.
    pub(super) fn take(&self) -> impl Iterator<Item = I::Item> + use<I> {
        self.0.take().into_iter().flatten()
    }
}

impl<T: Serialize, I: Iterator<Item = T>> Serialize for Elements<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.take())
    }
}

/// Returns an answer as text, with a line end.
///
/// # Errors
///
/// The data has no form in JSON.
pub fn as_json(subject: AnswerSubject, data: &impl Serialize) -> anyhow::Result<String> {
    let answer = JsonAnswer::new(subject, data);
    let mut text = serde_json::to_string_pretty(&answer).context("cannot write the answer as JSON")?;
    text.push('\n');
    Ok(text)
}

/// Returns the data of an answer.
///
/// # Errors
///
/// The text is no answer in JSON, or one of a version that this program does not know.
pub fn read_json<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    #[derive(Deserialize)]
    struct AnswerData<T> {
        data: T,
    }
    #[derive(Deserialize)]
    struct AnswerVersion {
        schema_version: u32,
    }
    let AnswerVersion { schema_version } =
        serde_json::from_str(text).map_err(|error| anyhow!("bmpd's JSON has no version: {error}"))?;
    if schema_version != SCHEMA_VERSION {
        bail!(
            "bmpd answers in version {schema_version} of its JSON, and this program knows version {SCHEMA_VERSION}: \
             use the program of the same release"
        );
    }
    let AnswerData { data } = serde_json::from_str(text).context("bmpd's JSON is not as this program knows it")?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_schema_and_version_before_its_data() {
        let text = as_json(AnswerSubject::BmpFeed, &[1, 2]).unwrap();
        let [schema, version, data] = ["\"schema\": \"bmp-feed\"", "\"schema_version\": 1", "\"data\": ["]
            .map(|member| text.find(member).unwrap_or_else(|| panic!("{text} has no {member}")));
        assert!(schema < version && version < data, "{text}");
        assert_eq!(read_json::<Vec<u32>>(&text).unwrap(), [1, 2]);
    }

    #[test]
    fn elements_that_are_written_one_by_one_are_an_array() {
        let mut out = Vec::new();
        JsonAnswer::new(AnswerSubject::BmpSession, Elements::new(1..3)).write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), as_json(AnswerSubject::BmpSession, &[1, 2]).unwrap());
    }

    #[test]
    fn an_answer_of_another_version_is_refused_with_both_versions() {
        let next = as_json(AnswerSubject::BmpFeed, &()).unwrap().replace("version\": 1", "version\": 2");
        let error = read_json::<()>(&next).unwrap_err().to_string();
        assert!(error.contains("in version 2 of its JSON") && error.contains("knows version 1"), "{error}");
        assert!(read_json::<()>("[]").unwrap_err().to_string().contains("has no version"));
    }

    #[test]
    fn no_two_answers_have_one_name() {
        let names: std::collections::BTreeSet<_> = AnswerSubject::ALL.map(AnswerSubject::name).into();
        assert_eq!(names.len(), AnswerSubject::ALL.len());
    }
}
