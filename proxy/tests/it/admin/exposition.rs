//! Reading Prometheus's text format.

use std::collections::BTreeMap;

use crate::support::Client;

/// One series at one moment.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// All series at one moment.
pub(crate) struct Exposition {
    pub(crate) text: String,
    pub(crate) series: Vec<Series>,
}

impl Exposition {
    pub(crate) async fn of(admin: &Client) -> Self {
        let answer = admin.get("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let text = answer.text;
        let lines = text.lines();
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines.map(series).collect();
        Self { text, series }
    }

    /// The sum of all series of this name with these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &&Series| {
            let mut labels = labels.iter();
            series.name == name
                && labels
                    .all(|(label, value)| series.labels.get(*label).is_some_and(|own| own == value))
        };
        self.series.iter().filter(has).map(|one| one.value).sum()
    }

    /// Whether there is a series of this name, of a histogram one of its parts.
    pub(crate) fn has(&self, name: &str) -> bool {
        let bucket = format!("{name}_bucket");
        let mut all = self.series.iter();
        all.any(|series| series.name == name || series.name == bucket)
    }
}

fn series(line: &str) -> Series {
    let (key, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match key.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
        None => (key, ""),
    };
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    let labels = pairs.map(|pair| {
        let (label, value) = pair.split_once("=\"").unwrap();
        (label.to_owned(), value.trim_end_matches('"').to_owned())
    });
    Series {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().unwrap(),
    }
}
