//! Paths in the files, as peers read them: variables, and links.

use std::path::{Component, Path, PathBuf};

use super::Environment;
use crate::sys::dir;

/// The path in which `$UID` is the user, and `$NAME` or `${NAME}` what the environment has under that name: nothing, when
/// it has none. As Go's `os.ExpandEnv`, in what is malformed as well.
pub(super) fn expand(text: &str, environment: &Environment) -> PathBuf {
    let text = text.replace("$UID", &environment.user.to_string());
    let mut expanded = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, read) = name(after);
        match read {
            // A dollar before nothing that could be a name stays.
            0 => expanded.push('$'),
            _ => {
                let variable = environment
                    .variables
                    .iter()
                    .find(|(known, _)| known == name);
                expanded.extend(variable.map(|(_, value)| value.as_str()));
            }
        }
        rest = &after[read..];
    }
    expanded.push_str(rest);
    expanded.into()
}

/// The name at the start of what follows a dollar, and how many bytes of it are read for that.
fn name(text: &str) -> (&str, usize) {
    let is_special = |byte: u8| b"*#$@!?-0123456789".contains(&byte);
    match text.as_bytes() {
        [b'{', special, b'}', ..] if is_special(*special) => (&text[1..2], 3),
        [b'{', ..] => match text.find('}') {
            Some(end) => (&text[1..end], end + 1),
            // The brace is passed over.
            None => ("", 1),
        },
        [special, ..] if is_special(*special) => (&text[..1], 1),
        _ => {
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let end = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
            (&text[..end], end)
        }
    }
}

/// Where a root is that is there already: behind all links, so that every name of it is one store. One that can't be looked
/// at keeps its name, without what says nothing. A path that does not begin at `/` keeps its beginning.
pub(super) fn resolve(path: &Path) -> PathBuf {
    if path.is_absolute()
        && let Ok(found) = dir::resolve(path)
    {
        return found;
    }
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some() => drop(clean.pop()),
            Component::ParentDir if clean.has_root() => {}
            part => clean.push(part),
        }
    }
    match clean.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_of_the_environment() {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = Environment {
            user: 7,
            variables: vec![
                variable("A_1", "a"),
                variable("B", "$A_1"),
                variable("1", "one"),
            ],
            ..Environment::default()
        };
        for (text, expected) in [
            ("/$A_1/${A_1}x$B", "/a/ax$A_1"),
            ("/$UID/s-$UID", "/7/s-7"),
            ("/$NONE/${NONE}/$1/${1}0", "///one/one0"),
            ("/a$/$$/x$", "/a$//x$"),
            ("/${}/${A_1", "//A_1"),
            ("/plain", "/plain"),
        ] {
            let found = expand(text, &environment);
            assert_eq!(found.to_str(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_root_that_is_there_is_found_behind_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/g")).unwrap();
        std::os::unix::fs::symlink("real", root.join("ln")).unwrap();
        assert_eq!(resolve(&root.join("ln/g")), root.join("real/g"));
        assert_eq!(
            resolve(&root.join("ln/./new//x/../y")),
            root.join("ln/new/y")
        );
        assert_eq!(resolve(Path::new("/../a")), Path::new("/a"));
        assert_eq!(resolve(Path::new("a/..")), Path::new("."));
        assert_eq!(resolve(Path::new("a/../../b")), Path::new("../b"));
    }
}
