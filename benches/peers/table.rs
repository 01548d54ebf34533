//! Figures of several rounds, as a table.

use std::fmt;

/// What one locker showed in one round, in the order of the columns.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// What one locker showed under one load, in all rounds.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) load: String,
    pub(crate) locker: String,
    rounds: Vec<Figures>,
}

impl Row {
    pub(crate) fn of(load: impl Into<String>, locker: impl Into<String>) -> Self {
        Self {
            load: load.into(),
            locker: locker.into(),
            rounds: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, figures: Figures) {
        self.rounds.push(figures);
    }

    fn columns(&self) -> Vec<&'static str> {
        let first = self.rounds.first();
        first.map_or_else(Vec::new, |of| of.iter().map(|(name, _)| *name).collect())
    }

    /// Lowest, median and highest of a column.
    pub(crate) fn of_column(&self, column: &str) -> Option<(f64, f64, f64)> {
        let of_round = |round: &Figures| {
            let found = round.iter().find(|(name, _)| *name == column);
            found.map(|(_, value)| *value)
        };
        let mut values: Vec<_> = self.rounds.iter().filter_map(of_round).collect();
        values.sort_by(f64::total_cmp);
        let middle = *values.get(values.len() / 2)?;
        Some((*values.first()?, middle, *values.last()?))
    }
}

/// One part of a report.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) title: &'static str,
    /// What is to be known to read it.
    pub(crate) about: &'static str,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// The median of a column, of one locker under one load.
    pub(crate) fn median(&self, load: &str, locker: &str, column: &str) -> Option<f64> {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.load == load && row.locker == locker)?;
        row.of_column(column).map(|(_, median, _)| median)
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let columns = self.rows.first().map(Row::columns).unwrap_or_default();
        let mut lines = vec![vec![String::new(), String::new()]];
        lines[0].extend(columns.iter().map(ToString::to_string));
        for row in &self.rows {
            let mut line = vec![row.load.clone(), row.locker.clone()];
            line.extend(columns.iter().map(|column| cell(row.of_column(column))));
            lines.push(line);
        }
        lines
    }

    /// As Markdown, without the title.
    pub(crate) fn markdown(&self) -> String {
        let mut lines = self.cells().into_iter();
        let head = lines.next().unwrap_or_default();
        let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
        for line in lines {
            text.push_str(&["| ", &line.join(" | "), " |\n"].concat());
        }
        text
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.cells();
        writeln!(f, "\n{}", self.title)?;
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        for line in &lines {
            for (column, cell) in line.iter().enumerate() {
                write!(f, "{cell:<width$}  ", width = width(column).unwrap_or(0))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn cell(figure: Option<(f64, f64, f64)>) -> String {
    let Some((low, median, high)) = figure else {
        return String::new();
    };
    if (low - high).abs() < f64::EPSILON {
        return number(median);
    }
    format!("{} ({}–{})", number(median), number(low), number(high))
}

/// Three digits that count, and thousands apart.
fn number(value: f64) -> String {
    if value >= 1_000.0 {
        let whole = format!("{value:.0}");
        let (head, tail) = whole.split_at(whole.len() - 3);
        format!("{head},{tail}")
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// So many of these.
pub(crate) fn count(number: usize, of: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {of}{plural}")
}
