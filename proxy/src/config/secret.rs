//! A secret comes from a file or from a variable, by the same rules everywhere: never from both, it
//! is text, and an empty variable is none.

use std::path::Path;

use super::sources::{Reader, Source};

/// A secret's text with where it comes from, if it is given; a problem is noted already.
pub(super) fn read(
    reader: &mut Reader<'_>,
    flag: &'static str,
    name: &'static str,
) -> Result<Option<(Source, String)>, ()> {
    let variable = reader.secret_variable(name);
    let file = reader.read_file(flag)?;
    let of_file = reader.source(flag);
    match choose(file, variable, name) {
        Ok(Some((text, true))) => Ok(Some((of_file, text))),
        Ok(Some((text, false))) => Ok(Some((Source::Variable(name), text))),
        Ok(None) => Ok(None),
        Err(problem) => {
            reader.problem(&of_file, &problem);
            Err(())
        }
    }
}

/// The same for a subcommand with such a flag. Where it comes from is in the words of an error.
pub(crate) fn given(
    flag: &str,
    path: Option<&Path>,
    name: &str,
) -> Result<Option<(String, String)>, String> {
    let path = path.filter(|path| !path.as_os_str().is_empty());
    let of_file = path.map_or_else(String::new, |path| format!("--{flag} {}", path.display()));
    let file = path.map(std::fs::read).transpose();
    let file = file.map_err(|error| format!("{of_file} can't be read: {error}"))?;
    let variable = std::env::var(name).ok().filter(|text| !text.is_empty());
    let chosen = choose(file, variable, name);
    let chosen = chosen.map_err(|problem| format!("{of_file}: {problem}"))?;
    Ok(chosen.map(|(text, in_file)| {
        let source = if in_file {
            of_file
        } else {
            format!("variable {name}")
        };
        (source, text)
    }))
}

/// The one of both, and whether it is the file's; what is wrong is wrong with the file.
fn choose(
    file: Option<Vec<u8>>,
    variable: Option<String>,
    name: &str,
) -> Result<Option<(String, bool)>, String> {
    match (file, variable) {
        (None, variable) => Ok(variable.map(|text| (text, false))),
        (Some(_), Some(_)) => Err(format!("can't be combined with variable {name}")),
        (Some(bytes), None) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some((text, true))),
            Err(_) => Err("there is something else than text in it".to_owned()),
        },
    }
}
