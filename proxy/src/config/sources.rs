//! Flags, variables and the file, and which of them a value comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;

use serde_json::Value;

use super::shown::{self, Public, Shown, ShownSetting};
use super::table::{self, SETTINGS, Setting};
use super::{Problems, parse};

/// What the settings are read from.
#[derive(Debug, Default)]
pub struct Sources {
    /// Values of the flags, by flag.
    pub flags: BTreeMap<String, Vec<String>>,
    /// The environment; only `EVERLOCK_…` and `OTEL_…` are looked at.
    pub env: Vec<(String, String)>,
}

impl Sources {
    /// The flags that were really given, and this process's environment.
    #[must_use]
    pub fn from_matches(matches: &ArgMatches) -> Self {
        let mut flags = BTreeMap::new();
        let names = SETTINGS.iter().map(|setting| setting.flag);
        for flag in names.chain([table::CONFIG_FLAG]) {
            if matches.value_source(flag) != Some(ValueSource::CommandLine) {
                continue;
            }
            let is_switch = flag != table::CONFIG_FLAG && table::named(flag).value.is_none();
            let values = if is_switch {
                vec!["true".to_owned()]
            } else {
                matches
                    .get_many::<String>(flag)
                    .map(|values| values.cloned().collect())
                    .unwrap_or_default()
            };
            flags.insert(flag.to_owned(), values);
        }
        let env = std::env::vars_os().map(|(name, value)| {
            let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
            (text(name), text(value))
        });
        Self {
            flags,
            env: env.collect(),
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let mut all = self.env.iter();
        all.find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Flag(&'static str),
    Variable(&'static str),
    File(PathBuf, String),
    Default(&'static str),
    Nowhere,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File(path, key) => write!(f, "file {}, key {key}", path.display()),
            Self::Default(flag) => write!(f, "default of --{flag}"),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// What was given for one setting.
pub(super) struct Given {
    pub(super) source: Source,
    pub(super) values: Vec<String>,
}

/// Reads settings and collects every problem.
pub(super) struct Reader<'a> {
    sources: Sources,
    files: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    file: Option<(PathBuf, toml::Table)>,
    problems: Vec<String>,
    warnings: Vec<String>,
    /// What was read so far, by name.
    shown: BTreeMap<&'static str, ShownSetting>,
}

impl<'a> Reader<'a> {
    pub(super) fn open(sources: Sources, files: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Self {
        let mut reader = Self {
            sources,
            files,
            file: None,
            problems: Vec::new(),
            warnings: Vec::new(),
            shown: BTreeMap::new(),
        };
        reader.open_file();
        reader.note_unknown_variables();
        reader
    }

    /// The warnings and all settings in the order of the help, or all problems if there are any.
    pub(super) fn finish(mut self) -> Result<(Vec<String>, Vec<ShownSetting>), Problems> {
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        let flags = SETTINGS.iter().map(|setting| setting.flag);
        let mut shown: Vec<_> = flags.filter_map(|flag| self.shown.remove(flag)).collect();
        shown.extend(self.shown.into_values());
        Ok((self.warnings, shown))
    }

    fn show(&mut self, name: &'static str, value: Value, source: &Source) {
        self.shown
            .insert(name, ShownSetting::new(name, value, source));
    }

    pub(super) fn problem(&mut self, source: &Source, problem: &str) {
        self.problems.push(format!("{source}: {problem}"));
    }

    /// The value given, or the default; the default also where what was given is
    /// a problem, since nothing is started then.
    pub(super) fn read<T: Shown>(
        &mut self,
        flag: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        if let Some(value) = self.read_optional(flag, &parse) {
            return value;
        }
        let default = table::named(flag).default;
        let value = default
            .and_then(|text| parse(text).ok())
            .expect("the table's defaults are valid, as a test checks");
        self.show(flag, value.shown(), &Source::Default(flag));
        value
    }

    /// The value given, if any.
    pub(super) fn read_optional<T: Shown>(
        &mut self,
        flag: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.show(flag, Value::Null, &Source::Default(flag));
        let given = self.given(table::named(flag))?;
        let [text] = given.values.as_slice() else {
            self.problem(&given.source, "takes one value");
            return None;
        };
        self.made(flag, &given.source, parse(text))
    }

    /// What was made of a text, if anything could be.
    fn made<T: Shown>(
        &mut self,
        name: &'static str,
        source: &Source,
        made: Result<T, String>,
    ) -> Option<T> {
        match made {
            Ok(value) => {
                self.show(name, value.shown(), source);
                Some(value)
            }
            Err(problem) => {
                self.problem(source, &problem);
                None
            }
        }
    }

    /// The values given, if any; `of` says what each of them is, so that it can be shown.
    pub(super) fn read_list<T: Shown>(
        &mut self,
        flag: &'static str,
        of: impl Fn(String) -> T,
    ) -> Option<Given> {
        self.show(flag, Value::Null, &Source::Default(flag));
        let mut given = self.given(table::named(flag))?;
        if matches!(given.source, Source::Variable(_)) {
            let parts = given.values.iter().flat_map(|text| text.split(','));
            let parts = parts.map(str::trim).filter(|part| !part.is_empty());
            given.values = parts.map(ToOwned::to_owned).collect();
        }
        let values = given.values.iter().cloned();
        let shown = values.map(|value| of(value).shown()).collect();
        self.show(flag, Value::Array(shown), &given.source);
        Some(given)
    }

    /// Each of the values given, or the default; what is wrong is a problem, and left out, and so is
    /// an empty list.
    pub(super) fn read_all<T: Shown>(
        &mut self,
        flag: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let setting = table::named(flag);
        let given = self.read_list(flag, Public);
        let given = given.unwrap_or_else(|| Given {
            source: Source::Default(setting.flag),
            values: setting.default.into_iter().map(str::to_owned).collect(),
        });
        if given.values.is_empty() {
            self.problem(&given.source, "is an empty list");
        }
        let mut all = Vec::new();
        for text in &given.values {
            match parse(text) {
                Ok(value) => all.push(value),
                Err(problem) => self.problem(&given.source, &problem),
            }
        }
        let shown = all.iter().map(Shown::shown).collect();
        self.show(flag, Value::Array(shown), &given.source);
        all
    }

    /// The switch, if it is on.
    pub(super) fn read_switch(&mut self, flag: &'static str) -> Option<Given> {
        let Some(on) = self.read_optional(flag, parse::switch) else {
            self.show(flag, false.into(), &Source::Default(flag));
            return None;
        };
        on.then(|| self.given(table::named(flag)))?
    }

    /// What is in the file that is named, if any; an error is noted already.
    pub(super) fn read_file(&mut self, flag: &'static str) -> Result<Option<Vec<u8>>, ()> {
        let Some(path) = self.read_path(flag) else {
            return Ok(None);
        };
        self.open_path(flag, &path).map(Some)
    }

    /// The file that is named, if any.
    pub(super) fn read_path(&mut self, flag: &'static str) -> Option<PathBuf> {
        self.read_optional(flag, |text| Ok(PathBuf::from(text)))
    }

    /// What is in the file that this setting names; an error is noted already.
    pub(super) fn open_path(&mut self, flag: &'static str, path: &Path) -> Result<Vec<u8>, ()> {
        self.open_named(&self.source(flag), path)
    }

    /// What is in the file that is named there; an error is noted already.
    pub(super) fn open_named(&mut self, source: &Source, path: &Path) -> Result<Vec<u8>, ()> {
        (self.files)(path).map_err(|error| {
            let problem = format!("{} can't be read: {error}", path.display());
            self.problem(source, &problem);
        })
    }

    /// A secret's variable, which has no flag; an empty one is as good as none.
    pub(super) fn secret_variable(&mut self, name: &'static str) -> Option<String> {
        let value = self.sources.variable(name).unwrap_or_default().to_owned();
        let value = Some(value).filter(|value| !value.is_empty());
        let (shown, source) = match &value {
            Some(_) => (shown::hidden(), Source::Variable(name)),
            None => (Value::Null, Source::Nowhere),
        };
        self.show(name, shown, &source);
        value
    }

    /// A variable that has no flag and no place in the file; an empty one is as good as none.
    pub(super) fn read_variable<T: Shown>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.sources.variable(name);
        let value = given.filter(|value| !value.is_empty())?.to_owned();
        self.made(name, &Source::Variable(name), parse(&value))
    }

    /// The file of settings, if there is one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|(path, _)| path.clone())
    }

    /// Where this setting comes from.
    pub(super) fn source(&self, flag: &'static str) -> Source {
        let setting = table::named(flag);
        self.given(setting)
            .map_or(Source::Default(setting.flag), |given| given.source)
    }

    fn given(&self, setting: &'static Setting) -> Option<Given> {
        if let Some(values) = self.sources.flags.get(setting.flag) {
            let (source, values) = (Source::Flag(setting.flag), values.clone());
            return Some(Given { source, values });
        }
        // An empty variable is how deployment files say that there is none.
        if let Some(text) = self
            .sources
            .variable(setting.env)
            .filter(|text| !text.is_empty())
        {
            let (source, values) = (Source::Variable(setting.env), vec![text.to_owned()]);
            return Some(Given { source, values });
        }
        let (path, table) = self.file.as_ref()?;
        let values = texts(table.get(setting.key)?);
        let source = Source::File(path.clone(), setting.key.to_owned());
        Some(Given { source, values })
    }

    fn open_file(&mut self) {
        let flag = self.sources.flags.get(table::CONFIG_FLAG);
        let (source, path) = if let Some(path) = flag.and_then(|values| values.first()) {
            (Source::Flag(table::CONFIG_FLAG), PathBuf::from(path))
        } else if let Some(path) = self
            .sources
            .variable(table::CONFIG_ENV)
            .filter(|path| !path.is_empty())
        {
            (Source::Variable(table::CONFIG_ENV), PathBuf::from(path))
        } else {
            return;
        };
        let utf_8 = |bytes| String::from_utf8(bytes).map_err(io::Error::other);
        let text = match (self.files)(&path).and_then(utf_8) {
            Ok(text) => text,
            Err(error) => {
                let problem = format!("{} can't be read: {error}", path.display());
                return self.problem(&source, &problem);
            }
        };
        match text.parse::<toml::Table>() {
            Ok(table) => {
                self.check_keys(&path, &table);
                self.file = Some((path, table));
            }
            // The parser's own text would show the line, which may hold a password.
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start));
                let line = before.map_or(1, |before| before.matches('\n').count() + 1);
                let path = path.display();
                let problem = format!("{path} is not TOML, line {line}: {}", error.message());
                self.problem(&source, &problem);
            }
        }
    }

    fn check_keys(&mut self, path: &Path, table: &toml::Table) {
        for (key, value) in table {
            let source = Source::File(path.to_owned(), key.clone());
            match SETTINGS.iter().find(|setting| setting.key == key) {
                None => self.problem(&source, "there is no such setting"),
                Some(setting) if value.is_array() && !setting.many => {
                    self.problem(&source, "takes one value, not a list");
                }
                Some(_) if value.is_table() || value.is_datetime() => {
                    self.problem(&source, "takes a text, a number, true or false");
                }
                Some(_) => {}
            }
        }
    }

    /// Only a warning: Kubernetes invents such variables for a service of our name.
    fn note_unknown_variables(&mut self) {
        for (name, _) in &self.sources.env {
            let known = SETTINGS.iter().any(|setting| setting.env == name)
                || table::OTHER_VARIABLES.contains(&name.as_str());
            if name.starts_with("EVERLOCK_") && !known {
                self.warnings.push(format!(
                    "variable {name} is no setting of everlock and is ignored"
                ));
            }
        }
    }
}

fn texts(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::Array(values) => values.iter().flat_map(texts).collect(),
        toml::Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}
