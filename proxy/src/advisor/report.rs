//! What `/insights` answers and `everlock tune` reads: samples by group of keys, with the advice.

use serde::{Deserialize, Serialize};

use super::{Advice, Samples, Wanted, advise};

/// All groups that one replica knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// What the figures are of.
    pub scope: String,
    /// The version of the proxy that made it.
    pub version: String,
    /// How often a group was forgotten for the sake of a busier one.
    pub groups_forgotten: u64,
    /// The groups, the busiest first.
    pub groups: Vec<Group>,
}

/// One group of keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Group {
    /// Whose keys.
    pub identity: String,
    /// What they have in common.
    pub group: String,
    /// What was seen.
    pub samples: Samples,
    /// What is advised; not read, but made anew from the samples.
    pub advice: Advice,
}

/// What every report is of.
pub const SCOPE: &str = "this replica only";

impl Group {
    /// The group with its advice.
    #[must_use]
    pub fn of(identity: String, group: String, samples: Samples, wanted: &Wanted) -> Self {
        Self {
            advice: advise(&samples, wanted),
            identity,
            group,
            samples,
        }
    }

    /// The same with the advice for other wishes.
    #[must_use]
    pub fn advised(self, wanted: &Wanted) -> Self {
        Self::of(self.identity, self.group, self.samples, wanted)
    }
}

impl Report {
    /// Reads a report, or the samples of one group alone.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        /// Tells the two apart, and says of the right one what is wrong with it.
        #[derive(Deserialize)]
        struct Shape {
            groups: Option<serde::de::IgnoredAny>,
        }
        let shape: Shape = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if shape.groups.is_some() {
            return serde_json::from_slice(json).map_err(|error| error.to_string());
        }
        let samples = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let group = Group {
            samples,
            ..Group::default()
        };
        Ok(Self {
            groups: vec![group],
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written_and_samples_alone_are_one_group() {
        let mut samples = Samples {
            acquired: 3,
            window_ms: 1_000,
            ..Samples::default()
        };
        samples.holds.add(100, 3);
        let wanted = Wanted::default();
        let group = Group::of("a".to_owned(), "k:#".to_owned(), samples.clone(), &wanted);
        let report = Report {
            scope: SCOPE.to_owned(),
            groups: vec![group],
            ..Report::default()
        };
        let json = serde_json::to_vec(&report).unwrap();
        assert_eq!(Report::parse(&json).unwrap(), report);
        let alone = Report::parse(&serde_json::to_vec(&samples).unwrap()).unwrap();
        assert_eq!(alone.groups[0].samples, samples);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, part) in [
            (&b"[]"[..], "expected struct"),
            (b"{\"groups\": 3}", "invalid type"),
            (b"{\"holds\": [1]}", "invalid type"),
            (b"{\"acquired\": -1}", "invalid value"),
            (b"nonsense", "expected"),
        ] {
            let problem = Report::parse(json).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
