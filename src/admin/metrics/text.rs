//! Families of metrics as text, in both formats that Prometheus reads.

use std::borrow::Cow;
use std::fmt::{self, Write};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

/// Metrics of one name.
#[derive(Debug, Clone)]
pub(super) struct Family {
    /// Without its unit and `_total`.
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: Kind,
    /// What the samples differ by; none for a family of one.
    label: Option<&'static str>,
    samples: Vec<(Cow<'static, str>, Value)>,
    /// Of a histogram: upper bounds and how many came to each; and the sum.
    histogram: (Vec<(f64, u64)>, f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Info,
    Histogram,
}

/// A sample's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

/// A format of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own text format, version 0.0.4.
    Classic,
}

impl Family {
    fn new(kind: Kind, name: &'static str, help: &'static str) -> Family {
        Family { name, help, unit: None, kind, label: None, samples: Vec::new(), histogram: Default::default() }
    }

    pub(super) fn counter(name: &'static str, help: &'static str, value: u64) -> Family {
        Family { samples: vec![("".into(), Value::Whole(value))], ..Family::new(Kind::Counter, name, help) }
    }

    /// A counter for each value of a label.
    pub(super) fn counters(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (impl Into<Cow<'static, str>>, u64)>,
    ) -> Family {
        let samples = values.into_iter().map(|(text, value)| (text.into(), Value::Whole(value))).collect();
        Family { label: Some(label), samples, ..Family::new(Kind::Counter, name, help) }
    }

    /// A counter in seconds.
    pub(super) fn counter_of_seconds(name: &'static str, help: &'static str, value: f64) -> Family {
        let samples = vec![("".into(), Value::Real(value))];
        Family { samples, unit: Some(Unit::Seconds), ..Family::new(Kind::Counter, name, help) }
    }

    pub(super) fn gauge(name: &'static str, help: &'static str, value: impl Into<Value>) -> Family {
        Family { samples: vec![("".into(), value.into())], ..Family::new(Kind::Gauge, name, help) }
    }

    /// A gauge without a sample where there is no value.
    pub(super) fn gauge_if_any(name: &'static str, help: &'static str, value: Option<impl Into<Value>>) -> Family {
        let samples = value.map(|value| ("".into(), value.into())).into_iter().collect();
        Family { samples, ..Family::new(Kind::Gauge, name, help) }
    }

    /// A gauge for each value of a label.
    pub(super) fn gauges(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (impl Into<Cow<'static, str>>, u64)>,
    ) -> Family {
        let samples = values.into_iter().map(|(text, value)| (text.into(), Value::Whole(value))).collect();
        Family { label: Some(label), samples, ..Family::new(Kind::Gauge, name, help) }
    }

    /// A text as the value of a label.
    pub(super) fn info(name: &'static str, help: &'static str, label: &'static str, text: &'static str) -> Family {
        Family { label: Some(label), samples: vec![(text.into(), Value::Whole(1))], ..Family::new(Kind::Info, name, help) }
    }

    /// Upper bounds, the last one infinite, how many came to each but to none before; and the sum.
    pub(super) fn histogram(name: &'static str, help: &'static str, buckets: Vec<(f64, u64)>, sum: f64) -> Family {
        Family { histogram: (buckets, sum), ..Family::new(Kind::Histogram, name, help) }
    }

    /// In seconds: the name will end in them.
    pub(super) fn seconds(self) -> Family {
        Family { unit: Some(Unit::Seconds), ..self }
    }

    /// In bytes: the name will end in them.
    pub(super) fn bytes(self) -> Family {
        Family { unit: Some(Unit::Bytes), ..self }
    }

    fn encode_into(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Info => MetricType::Info,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        if self.kind == Kind::Histogram {
            let (buckets, sum) = &self.histogram;
            return metric.encode_histogram::<NoLabelSet>(*sum, buckets.iter().map(|(_, count)| count).sum(), buckets, None);
        }
        for (text, value) in &self.samples {
            match self.label {
                Some(label) if self.kind == Kind::Info => metric.encode_info(&[(label, text.as_ref())])?,
                Some(label) => self.encode_sample(*value, &mut metric.encode_family(&[(label, text.as_ref())])?)?,
                None => self.encode_sample(*value, &mut metric)?,
            }
        }
        Ok(())
    }

    fn encode_sample(&self, value: Value, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self.kind {
            Kind::Counter => metric.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>),
            _ => metric.encode_gauge(&value),
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Real(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Whole(u64::from(value))
    }
}

impl EncodeGaugeValue for Value {
    fn encode(&self, encoder: &mut prometheus_client::encoding::GaugeValueEncoder<'_>) -> fmt::Result {
        match self {
            Value::Whole(value) => EncodeGaugeValue::encode(value, encoder),
            Value::Real(value) => EncodeGaugeValue::encode(value, encoder),
        }
    }
}

impl EncodeCounterValue for Value {
    fn encode(&self, encoder: &mut prometheus_client::encoding::CounterValueEncoder<'_>) -> fmt::Result {
        match self {
            Value::Whole(value) => EncodeCounterValue::encode(value, encoder),
            Value::Real(value) => EncodeCounterValue::encode(value, encoder),
        }
    }
}

/// All families of a page.
#[derive(Debug)]
struct Page(Vec<Family>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode_into(&mut encoder))
    }
}

impl Format {
    /// The format for an `Accept` header. OpenMetrics unless the header prefers plain text.
    pub(super) fn accepted(accept: Option<&str>) -> Format {
        let Some(accept) = accept else { return Format::OpenMetrics };
        let quality = |kind: &str, of_all: &str| {
            // What is named most exactly counts, wherever it stands.
            let named = |name: &str| accept.split(',').filter_map(|range| quality_of(range, name)).reduce(f32::max);
            named(kind).or_else(|| named(of_all)).or_else(|| named("*/*")).unwrap_or(0.0)
        };
        if quality("application/openmetrics-text", "application/*") >= quality("text/plain", "text/*") {
            Format::OpenMetrics
        } else {
            Format::Classic
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The page in this format.
    ///
    /// # Errors
    /// There is none: text takes every write.
    pub(super) fn page(self, families: Vec<Family>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Page(families)));
        let mut page = String::with_capacity(16 << 10);
        encode(&mut page, &registry)?;
        match self {
            Format::OpenMetrics => Ok(page),
            Format::Classic => classic(&page),
        }
    }
}

/// The quality that one range of an `Accept` header gives to a type that it names.
fn quality_of(range: &str, name: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(name) {
        return None;
    }
    let quality = parts.find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")));
    Some(quality.and_then(|quality| quality.parse().ok()).unwrap_or(1.0))
}

/// The older format names a counter with its `_total` and an info with its `_info` in the comments, too, knows no info, no units and no end.
fn classic(page: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(page.len());
    let mut help = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            write!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n")?;
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        vec![
            Family::counters("a_verifies", "By verdict.", "verdict", [("ok", 3), ("unknown", 0)]),
            Family::gauge("a_index", "Bytes.", 7).bytes(),
            Family::gauge_if_any("a_next", "Maybe.", None::<u64>),
            Family::info("a_build", "Version.", "version", "1.0"),
            Family::counter_of_seconds("a_cpu", "Time.", 0.25),
            Family::histogram("a_serving", "Time.", vec![(1e-6, 2), (f64::INFINITY, 1)], 1.5).seconds(),
        ]
    }

    #[test]
    fn both_formats_say_the_same() {
        let open = "# HELP a_verifies By verdict.\n# TYPE a_verifies counter\na_verifies_total{verdict=\"ok\"} 3\n\
             a_verifies_total{verdict=\"unknown\"} 0\n# HELP a_index_bytes Bytes.\n# TYPE a_index_bytes gauge\n# UNIT a_index_bytes bytes\n\
             a_index_bytes 7\n# HELP a_next Maybe.\n# TYPE a_next gauge\n# HELP a_build Version.\n# TYPE a_build info\n\
             a_build_info{version=\"1.0\"} 1\n# HELP a_cpu_seconds Time.\n# TYPE a_cpu_seconds counter\n# UNIT a_cpu_seconds seconds\n\
             a_cpu_seconds_total 0.25\n# HELP a_serving_seconds Time.\n# TYPE a_serving_seconds histogram\n\
             # UNIT a_serving_seconds seconds\na_serving_seconds_sum 1.5\na_serving_seconds_count 3\n\
             a_serving_seconds_bucket{le=\"0.000001\"} 2\na_serving_seconds_bucket{le=\"+Inf\"} 3\n# EOF\n";
        assert_eq!(Format::OpenMetrics.page(families()).unwrap(), open);
        let classic = "# HELP a_verifies_total By verdict.\n# TYPE a_verifies_total counter\na_verifies_total{verdict=\"ok\"} 3\n\
             a_verifies_total{verdict=\"unknown\"} 0\n# HELP a_index_bytes Bytes.\n# TYPE a_index_bytes gauge\na_index_bytes 7\n\
             # HELP a_next Maybe.\n# TYPE a_next gauge\n# HELP a_build_info Version.\n# TYPE a_build_info gauge\n\
             a_build_info{version=\"1.0\"} 1\n# HELP a_cpu_seconds_total Time.\n# TYPE a_cpu_seconds_total counter\n\
             a_cpu_seconds_total 0.25\n# HELP a_serving_seconds Time.\n# TYPE a_serving_seconds histogram\na_serving_seconds_sum 1.5\n\
             a_serving_seconds_count 3\na_serving_seconds_bucket{le=\"0.000001\"} 2\na_serving_seconds_bucket{le=\"+Inf\"} 3\n";
        assert_eq!(Format::Classic.page(families()).unwrap(), classic);
    }

    #[test]
    fn the_format_is_what_the_header_prefers() {
        for (accept, format) in [
            (None, Format::OpenMetrics),
            (Some("*/*"), Format::OpenMetrics),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), Format::OpenMetrics),
            (Some("text/plain"), Format::Classic),
            (Some("text/plain;version=0.0.4;q=1,*/*;q=0.1"), Format::Classic),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                Format::OpenMetrics,
            ),
            (Some("application/openmetrics-text; q=0.2, text/*"), Format::Classic),
            (Some("application/openmetrics-text;q=0, text/plain"), Format::Classic),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept:?}");
        }
    }
}
