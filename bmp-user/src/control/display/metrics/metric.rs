//! A metric: its name, and how its values are read from a report.

use std::{borrow::Cow, fmt, io};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// A family of metrics that is read from reports of one type.
#[derive(Debug)]
pub(super) struct Metric<T: 'static> {
    /// Without the unit, and without the `_total` of a counter.
    pub(super) name: &'static str,
    /// The end of the name, in the plural.
    pub(super) unit: Option<&'static str>,
    pub(super) kind: MetricKind,
    /// Without its full stop.
    pub(super) help: &'static str,
    pub(super) series: &'static [Series<T>],
}

/// What a value may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    /// It only grows, and begins at zero when what it counts in begins.
    Counter,
    /// The same. It is kept in the kernel's tables, and goes on when bmpd is started again.
    KernelCounter,
    /// It may go up and down.
    Gauge,
    /// It is 1, and its labels say something.
    Info,
}

/// A series of a metric, or several.
#[derive(Debug)]
pub(super) struct Series<T: 'static> {
    /// Labels beside those of the report.
    pub(super) labels: &'static [(&'static str, &'static str)],
    /// The field of the report's JSON that has the same number; empty if none does.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the two"))]
    pub(super) json: &'static str,
    pub(super) reading: MetricReading<T>,
}

/// A number for each value of a label.
pub(super) type NumbersByLabel = Vec<(Cow<'static, str>, u64)>;
/// A number for each pair of values of two labels.
pub(super) type NumbersByPair = Vec<([String; 2], u64)>;

/// How values are read from a report.
#[derive(Debug)]
pub(super) enum MetricReading<T: 'static> {
    Number(fn(&T) -> u64),
    /// Nothing where nothing counts.
    Counted(fn(&T) -> Option<u64>),
    /// Nothing where there is nothing to measure.
    Measured(fn(&T) -> Option<f64>),
    /// A series for each value of a label.
    Each(&'static str, fn(&T) -> NumbersByLabel),
    /// A series for each pair of values of two labels.
    EachOfTwo([&'static str; 2], fn(&T) -> NumbersByPair),
    /// A series without a number of its own: its label says something.
    Labels(&'static [&'static str], fn(&T) -> Option<Vec<String>>),
}

/// A report that metrics are read from.
pub(super) trait MetricSubject: 'static {
    /// The command whose JSON has the report; empty if none has.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares metrics and JSON"))]
    const COMMAND: &'static str;
    /// The labels that each series of the report has.
    const LABELS: &'static [&'static str];

    /// Returns the values of [`Self::LABELS`].
    fn labels(&self) -> Vec<String>;
}

/// Makes a counter.
pub(super) const fn counter<T>(
    name: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
    series: &'static [Series<T>],
) -> Metric<T> {
    Metric { name, unit, kind: MetricKind::Counter, help, series }
}

/// Makes a counter that the kernel keeps.
pub(super) const fn kernel_counter<T>(
    name: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
    series: &'static [Series<T>],
) -> Metric<T> {
    Metric { name, unit, kind: MetricKind::KernelCounter, help, series }
}

/// Makes a gauge.
pub(super) const fn gauge<T>(
    name: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
    series: &'static [Series<T>],
) -> Metric<T> {
    Metric { name, unit, kind: MetricKind::Gauge, help, series }
}

/// Makes a series that has the number of a field.
pub(super) const fn number<T>(json: &'static str, read: fn(&T) -> u64) -> Series<T> {
    Series { labels: &[], json, reading: MetricReading::Number(read) }
}

/// Makes a series for a whole number that is not always counted.
pub(super) const fn counted<T>(json: &'static str, read: fn(&T) -> Option<u64>) -> Series<T> {
    Series { labels: &[], json, reading: MetricReading::Counted(read) }
}

/// Makes a series with a label of its own, for a whole number that is not always counted.
pub(super) const fn labelled_count<T>(
    labels: &'static [(&'static str, &'static str)],
    json: &'static str,
    read: fn(&T) -> Option<u64>,
) -> Series<T> {
    Series { labels, json, reading: MetricReading::Counted(read) }
}

/// Makes a series for a number that there is not always.
pub(super) const fn measured<T>(json: &'static str, read: fn(&T) -> Option<f64>) -> Series<T> {
    Series { labels: &[], json, reading: MetricReading::Measured(read) }
}

/// Makes a series with a label of its own.
pub(super) const fn labelled<T>(
    labels: &'static [(&'static str, &'static str)],
    json: &'static str,
    read: fn(&T) -> u64,
) -> Series<T> {
    Series { labels, json, reading: MetricReading::Number(read) }
}

/// Makes a series for each value of a label.
pub(super) const fn each<T>(label: &'static str, json: &'static str, read: fn(&T) -> NumbersByLabel) -> Series<T> {
    Series { labels: &[], json, reading: MetricReading::Each(label, read) }
}

impl<T> Metric<T> {
    /// Returns the name as Prometheus has it.
    #[cfg(test)]
    pub(super) fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let end = match self.kind {
            MetricKind::Counter | MetricKind::KernelCounter => "_total",
            MetricKind::Info => "_info",
            MetricKind::Gauge => "",
        };
        format!("{}{unit}{end}", self.name)
    }

    fn metric_type(&self) -> MetricType {
        match self.kind {
            MetricKind::Counter | MetricKind::KernelCounter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
            MetricKind::Info => MetricType::Info,
        }
    }
}

/// Reports with their labels, for several metrics.
pub(super) struct Labelled<'a, T>(Vec<(&'a T, Option<ReportLabels>)>);

/// The labels of a report, which are written before those of each series.
///
/// The encoder writes a name, `="`, a value and `"` for each label. All but the value of the last
/// label is given to it as one name, which takes it a third of the time.
#[derive(Debug)]
struct ReportLabels {
    /// As `station="192.0.2.1",vpn_instance="_public_",alias`.
    name: String,
    /// The value of the last label.
    value: String,
}

impl ReportLabels {
    /// Takes labels with their values. `None` if there are none.
    fn of(names: &[&str], values: &[String]) -> Option<Self> {
        let mut labels = names.iter().zip(values);
        let (last, value) = labels.next_back()?;
        let mut name = String::new();
        for (before, value) in labels {
            for part in [before, "=\"", &escaped(value), "\","] {
                name.push_str(part);
            }
        }
        name.push_str(last);
        Some(Self { name, value: escaped(value).into_owned() })
    }
}

impl<'a, T: MetricSubject> Labelled<'a, T> {
    pub(super) fn new(reports: &'a [T]) -> Self {
        Self(reports.iter().map(|report| (report, ReportLabels::of(T::LABELS, &report.labels()))).collect())
    }

    /// Writes the metrics of the reports.
    pub(super) fn encode(&self, metrics: &[Metric<T>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        for metric in metrics {
            let unit = metric.unit.map(unit);
            let mut encoder =
                encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), metric.metric_type())?;
            for (report, labels) in &self.0 {
                for series in metric.series {
                    series.encode(metric.kind, report, labels.as_ref(), &mut encoder)?;
                }
            }
        }
        Ok(())
    }
}

fn unit(name: &str) -> Unit {
    match name {
        "bytes" => Unit::Bytes,
        "seconds" => Unit::Seconds,
        other => Unit::Other(other.to_owned()),
    }
}

/// A value of a series.
#[derive(Clone, Copy)]
enum MetricValue {
    Whole(u64),
    Real(f64),
}

impl<T> Series<T> {
    fn encode(
        &self,
        kind: MetricKind,
        report: &T,
        labels: Option<&ReportLabels>,
        encoder: &mut MetricEncoder<'_>,
    ) -> fmt::Result {
        let mut put = |own: &[(&str, &str)], value| {
            let labels = Labels { of_report: labels, of_series: self.labels, own };
            encode_value(kind, &labels, value, encoder)
        };
        match &self.reading {
            MetricReading::Number(read) => put(&[], MetricValue::Whole(read(report))),
            MetricReading::Counted(read) => read(report).map_or(Ok(()), |value| put(&[], MetricValue::Whole(value))),
            MetricReading::Measured(read) => read(report).map_or(Ok(()), |value| put(&[], MetricValue::Real(value))),
            MetricReading::Each(label, read) => read(report)
                .into_iter()
                .try_for_each(|(of, number)| put(&[(label, &escaped(&of))], MetricValue::Whole(number))),
            MetricReading::EachOfTwo([one, two], read) => {
                read(report).into_iter().try_for_each(|([first, second], number)| {
                    put(&[(one, &escaped(&first)), (two, &escaped(&second))], MetricValue::Whole(number))
                })
            }
            MetricReading::Labels(names, read) => match read(report) {
                Some(values) => {
                    let values: Vec<_> = values.iter().map(|value| escaped(value)).collect();
                    let own: Vec<_> = names.iter().copied().zip(values.iter().map(|value| &**value)).collect();
                    put(&own, MetricValue::Whole(1))
                }
                None => Ok(()),
            },
        }
    }
}

fn encode_value(
    kind: MetricKind,
    labels: &Labels<'_>,
    value: MetricValue,
    encoder: &mut MetricEncoder<'_>,
) -> fmt::Result {
    if kind == MetricKind::Info {
        return encoder.encode_info(labels);
    }
    if labels.is_empty() {
        return encode_number(kind, value, encoder);
    }
    encode_number(kind, value, &mut encoder.encode_family(labels)?)
}

fn encode_number(kind: MetricKind, value: MetricValue, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match (kind, value) {
        (MetricKind::Gauge, MetricValue::Whole(value)) => encoder.encode_gauge(&WholeGauge(value)),
        (MetricKind::Gauge, MetricValue::Real(value)) => encoder.encode_gauge(&value),
        (_, MetricValue::Whole(value)) => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
        (_, MetricValue::Real(value)) => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
    }
}

/// A whole number as the value of a gauge.
#[derive(Clone, Copy, Debug)]
struct WholeGauge(u64);

impl prometheus_client::encoding::EncodeGaugeValue for WholeGauge {
    fn encode(&self, encoder: &mut prometheus_client::encoding::GaugeValueEncoder<'_>) -> fmt::Result {
        // The encoder takes signed numbers. What is beyond them has no metric in practice.
        prometheus_client::encoding::EncodeGaugeValue::encode(&i64::try_from(self.0).unwrap_or(i64::MAX), encoder)
    }
}

/// The labels of a series, escaped.
#[derive(Debug)]
struct Labels<'a> {
    of_report: Option<&'a ReportLabels>,
    of_series: &'a [(&'static str, &'static str)],
    own: &'a [(&'a str, &'a str)],
}

impl Labels<'_> {
    fn is_empty(&self) -> bool {
        self.of_report.is_none() && self.of_series.is_empty() && self.own.is_empty()
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        if let Some(ReportLabels { name, value }) = self.of_report {
            (name.as_str(), value.as_str()).encode(encoder.encode_label())?;
        }
        for label in self.of_series.iter().chain(self.own) {
            label.encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// Escapes the value of a label (OpenMetrics, "escaped-string"), which the library does not.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Takes text for a writer of bytes, in pieces of some size.
pub(super) struct TextWriter<'a> {
    out: &'a mut dyn io::Write,
    text: String,
    /// Why nothing can be written any more.
    pub(super) failed: Option<io::Error>,
}

impl<'a> TextWriter<'a> {
    const SIZE: usize = 16 * 1024;

    pub(super) fn new(out: &'a mut dyn io::Write) -> Self {
        Self { out, text: String::with_capacity(2 * Self::SIZE), failed: None }
    }

    /// Writes what is left.
    pub(super) fn end(mut self) -> io::Result<()> {
        // What failed is kept.
        let _ = self.send();
        self.failed.map_or(Ok(()), Err)
    }

    fn send(&mut self) -> fmt::Result {
        if self.failed.is_none()
            && let Err(error) = self.out.write_all(self.text.as_bytes())
        {
            self.failed = Some(error);
        }
        self.text.clear();
        if self.failed.is_some() { Err(fmt::Error) } else { Ok(()) }
    }
}

impl fmt::Write for TextWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.write_str(text)?;
        if self.text.len() >= Self::SIZE { self.send() } else { Ok(()) }
    }
}
