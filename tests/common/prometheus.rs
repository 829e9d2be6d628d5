//! A strict parser of the Prometheus text format, version 0.0.4. It panics at what a
//! scraper merely tolerates.

use std::collections::BTreeSet;

/// A page of metrics.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) families: Vec<Family>,
    samples: Vec<Sample>,
}

/// A metric with one or more series.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) help: String,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Page {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut page = Self::default();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let family = Family::parse(line, lines.next().unwrap_or_default());
            assert!(
                page.families.iter().all(|other| other.name != family.name),
                "{} is there twice",
                family.name
            );
            let first = page.samples.len();
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                page.samples.push(Sample::parse(line, &family));
            }
            check(&family, &page.samples[first..]);
            page.families.push(family);
        }
        page
    }

    /// The sum of all series with this name and these labels. There must be one.
    #[track_caller]
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample, (name, value): &(&str, &str)| {
            let label = (String::from(*name), String::from(*value));
            sample.labels.contains(&label)
        };
        let found: Vec<_> = self
            .samples
            .iter()
            .filter(|sample| sample.name == name)
            .filter(|sample| labels.iter().all(|label| has(sample, label)))
            .map(|sample| sample.value)
            .collect();
        assert!(!found.is_empty(), "there is no {name} with {labels:?}");
        found.iter().sum()
    }

    /// As [`sum`](Self::sum), for whole numbers.
    #[track_caller]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::float_cmp,
        reason = "checked by the way back"
    )]
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let sum = self.sum(name, labels);
        let count = sum as u64;
        assert_eq!(count as f64, sum, "{name} counts");
        count
    }

    /// The names of all series, those of a histogram's parts included.
    pub(crate) fn series_names(&self) -> BTreeSet<&str> {
        self.samples.iter().map(|sample| &*sample.name).collect()
    }

    /// The labels of all series with this name.
    pub(crate) fn labels_of(&self, name: &str) -> BTreeSet<&str> {
        self.samples
            .iter()
            .filter(|sample| sample.name == name)
            .flat_map(|sample| sample.labels.iter().map(|(name, _)| &**name))
            .collect()
    }

    /// The values of this label in all series with this name.
    pub(crate) fn values_of<'a>(&'a self, name: &str, label: &str) -> BTreeSet<&'a str> {
        self.samples
            .iter()
            .filter(|sample| sample.name == name)
            .filter_map(|sample| sample.label(label))
            .collect()
    }
}

impl Family {
    #[track_caller]
    fn parse(help: &str, kind: &str) -> Self {
        let line = help.strip_prefix("# HELP ");
        let (name, help) = line
            .and_then(|line| line.split_once(' '))
            .unwrap_or_else(|| panic!("no HELP line: {help:?}"));
        assert!(is_name(name), "{name:?} is no name");
        assert!(help.ends_with('.'), "{name}: {help:?} is no sentence");
        let kind = kind
            .strip_prefix("# TYPE ")
            .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("no TYPE line for {name}: {kind:?}"));
        match kind {
            "counter" => assert!(name.ends_with("_total"), "{name} is a counter"),
            "gauge" | "histogram" => {
                let reserved = ["_total", "_count", "_sum", "_bucket"];
                let is_reserved = reserved.iter().any(|suffix| name.ends_with(suffix));
                assert!(!is_reserved, "{name} is a {kind}");
            }
            _ => panic!("{name} is a {kind:?}"),
        }
        Self {
            name: name.into(),
            kind: kind.into(),
            help: help.into(),
        }
    }
}

impl Sample {
    #[track_caller]
    fn parse(line: &str, family: &Family) -> Self {
        let end = line
            .find(['{', ' '])
            .unwrap_or_else(|| panic!("no value: {line:?}"));
        let (name, mut rest) = line.split_at(end);
        let part = name.strip_prefix(&*family.name);
        let parts: &[&str] = match &*family.kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(
            part.is_some_and(|part| parts.contains(&part)),
            "{name} stands under {}",
            family.name
        );
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                let (label, quoted) = rest.split_once("=\"").expect("a label");
                let (value, after) = unquote(quoted);
                assert!(
                    is_name(label) && !label.contains(':'),
                    "{label:?} in {line}"
                );
                labels.push((label.into(), value));
                match after.split_at(1) {
                    (",", more) => rest = more,
                    ("}", more) => {
                        rest = more;
                        break;
                    }
                    _ => panic!("neither , nor }} behind a label: {line:?}"),
                }
            }
        }
        let value = rest.strip_prefix(' ').expect("one space before the value");
        Self {
            name: name.into(),
            labels,
            value: number(value),
        }
    }

    fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| &**value)
    }
}

/// The value up to its closing quote, and the text after it.
#[track_caller]
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, char @ ('\\' | '"'))) => char,
                other => panic!("\\ before {other:?}"),
            }),
            char => value.push(char),
        }
    }
    panic!("a value without an end: {text:?}")
}

#[track_caller]
fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        _ => {
            assert!(
                text.starts_with(|first: char| first.is_ascii_digit() || first == '-'),
                "{text:?} is no number"
            );
            text.parse().expect("a number")
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_name_char = |char: char| char.is_ascii_alphanumeric() || "_:".contains(char);
    name.chars().all(is_name_char) && name.starts_with(|first: char| !first.is_ascii_digit())
}

/// The rules for all series of a metric together.
#[track_caller]
fn check(family: &Family, samples: &[Sample]) {
    let name = &family.name;
    assert!(!samples.is_empty(), "{name} has no series");
    let mut seen = BTreeSet::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        labels.sort();
        let names: BTreeSet<_> = labels.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(
            names.len(),
            labels.len(),
            "a label of {name} is there twice"
        );
        assert!(
            seen.insert((sample.name.clone(), labels)),
            "{sample:?} is there twice"
        );
    }
    if family.kind == "counter" {
        let are_counts = samples
            .iter()
            .all(|s| s.value.is_finite() && s.value >= 0.0);
        assert!(are_counts, "{name} counts");
    }
    if family.kind == "histogram" {
        check_histogram(name, samples);
    }
}

/// One histogram, without further labels.
#[track_caller]
fn check_histogram(name: &str, samples: &[Sample]) {
    let (buckets, rest) = samples.split_at(samples.len() - 2);
    let mut last = (f64::NEG_INFINITY, 0.0);
    for bucket in buckets {
        assert_eq!(bucket.name, format!("{name}_bucket"));
        let bound = number(bucket.label("le").expect("a bound"));
        assert!(
            bound > last.0 && bucket.value >= last.1,
            "{name} does not grow at {bound}"
        );
        last = (bound, bucket.value);
    }
    let [sum, count] = rest else {
        panic!("{name} has no sum and count");
    };
    assert_eq!(sum.name, format!("{name}_sum"));
    assert_eq!(count.name, format!("{name}_count"));
    assert_eq!(
        last,
        (f64::INFINITY, count.value),
        "{name}: the last bucket"
    );
}
