//! [`Change`]: one instruction that changes what an image runs as, as Podman and Buildah take them.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Map, Value, json};

/// The instructions that there are.
const KNOWN: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR";

/// One instruction: `CMD ["/bin/web"]`, `ENV PATH=/bin`, `USER 1000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What is run, or what the entry point gets as arguments.
    Cmd(Vec<String>),
    /// What is always run.
    Entrypoint(Vec<String>),
    /// Environment variables.
    Env(Vec<(String, String)>),
    /// Ports, `80/tcp`.
    Expose(Vec<String>),
    /// Labels.
    Label(Vec<(String, String)>),
    /// An instruction for builds on top of the image.
    OnBuild(String),
    /// The signal that ends it.
    StopSignal(String),
    /// The user and group.
    User(String),
    /// Directories that are to be volumes.
    Volume(Vec<String>),
    /// The working directory.
    WorkDir(String),
}

/// A text that is no change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a change of an image: {reason}")]
pub struct ParseChangeError {
    text: String,
    reason: String,
}

impl FromStr for Change {
    type Err = ParseChangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason: String| ParseChangeError {
            text: text.to_owned(),
            reason,
        };
        let trimmed = text.trim();
        // `CMD=...` is as good as `CMD ...`.
        let (word, rest) = trimmed
            .split_once(|letter: char| letter == '=' || letter.is_whitespace())
            .unwrap_or((trimmed, ""));
        let rest = rest.trim();
        let one = || match rest {
            "" => Err(fail("a value is missing".into())),
            some => Ok(unquoted(some).to_owned()),
        };
        match word.to_ascii_uppercase().as_str() {
            "CMD" => command(rest).map(Self::Cmd),
            "ENTRYPOINT" => command(rest).map(Self::Entrypoint),
            "ENV" => pairs(rest).map(Self::Env),
            "EXPOSE" => ports(rest).map(Self::Expose),
            "LABEL" => pairs(rest).map(Self::Label),
            "ONBUILD" => return one().map(Self::OnBuild),
            "STOPSIGNAL" => return one().map(Self::StopSignal),
            "USER" => return one().map(Self::User),
            "VOLUME" => paths(rest).map(Self::Volume),
            "WORKDIR" => return one().map(Self::WorkDir),
            other => Err(format!("{other:?} is not one of {KNOWN}")),
        }
        .map_err(fail)
    }
}

impl Change {
    /// Makes the change in the `config` part of an image's config.
    pub(super) fn apply(&self, config: &mut Map<String, Value>) {
        match self {
            Self::Cmd(words) => put_list(config, "Cmd", words),
            Self::Entrypoint(words) => put_list(config, "Entrypoint", words),
            Self::Env(pairs) => set_variables(config, pairs),
            Self::Expose(ports) => add_keys(config, "ExposedPorts", ports),
            Self::Label(pairs) => {
                let labels = object(config, "Labels");
                labels.extend(pairs.iter().map(|(key, value)| (key.clone(), json!(value))));
            }
            Self::OnBuild(text) => {
                let entry = config.entry("OnBuild").or_insert_with(|| json!([]));
                match entry.as_array_mut() {
                    Some(list) => list.push(json!(text)),
                    None => *entry = json!([text]),
                }
            }
            Self::StopSignal(text) => put(config, "StopSignal", json!(text)),
            Self::User(text) => put(config, "User", json!(text)),
            Self::Volume(paths) => add_keys(config, "Volumes", paths),
            Self::WorkDir(path) => {
                let old = config.get("WorkingDir").and_then(Value::as_str);
                let new = match (path.starts_with('/'), old) {
                    (true, _) => path.clone(),
                    (false, Some(old)) if !old.is_empty() => {
                        format!("{}/{path}", old.trim_end_matches('/'))
                    }
                    (false, _) => format!("/{path}"),
                };
                put(config, "WorkingDir", json!(new));
            }
        }
    }
}

fn put(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

/// A list; an empty one takes the key out.
fn put_list(config: &mut Map<String, Value>, key: &str, words: &[String]) {
    if words.is_empty() {
        config.remove(key);
    } else {
        put(config, key, json!(words));
    }
}

/// The object under `key`, made when it is missing or none.
fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let entry = config.entry(key).or_insert(Value::Null);
    if !entry.is_object() {
        *entry = json!({});
    }
    entry.as_object_mut().expect("it was just made one")
}

/// Adds keys to a set as Go writes sets: an object of empty objects.
fn add_keys(config: &mut Map<String, Value>, key: &str, names: &[String]) {
    object(config, key).extend(names.iter().map(|name| (name.clone(), json!({}))));
}

/// Sets variables where they are, and adds the others.
fn set_variables(config: &mut Map<String, Value>, pairs: &[(String, String)]) {
    let old = config.get("Env").and_then(Value::as_array);
    let mut lines: Vec<String> = old
        .into_iter()
        .flatten()
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect();
    for (name, value) in pairs {
        let line = format!("{name}={value}");
        let is_old = |line: &&mut String| {
            line.split_once('=')
                .map_or(line.as_str(), |(known, _)| known)
                == name.as_str()
        };
        match lines.iter_mut().find(is_old) {
            Some(old) => *old = line,
            None => lines.push(line),
        }
    }
    put(config, "Env", json!(lines));
}

/// A command: a JSON list of words, or a line for the shell. Nothing at all is no command.
fn command(text: &str) -> Result<Vec<String>, String> {
    if text.starts_with('[') {
        return serde_json::from_str(text).map_err(|_| "it is not a JSON list of texts".to_owned());
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    Ok(["/bin/sh", "-c", text].map(str::to_owned).to_vec())
}

/// `NAME=VALUE ...`, or one `NAME VALUE`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let words = words(text)?;
    let first = words.first().ok_or("NAME=VALUE is missing")?;
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{first:?} has no value: write NAME=VALUE"))?;
        return Ok(vec![(name.to_owned(), unquoted(value.trim()).to_owned())]);
    }
    let mut pairs = BTreeMap::new();
    let mut order = Vec::new();
    for word in &words {
        let (name, value) = word
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("{word:?} is not NAME=VALUE"))?;
        if pairs.insert(name.to_owned(), value.to_owned()).is_none() {
            order.push(name.to_owned());
        }
    }
    Ok(order
        .into_iter()
        .filter_map(|name| pairs.remove_entry(&name))
        .collect())
}

/// `80`, `53/udp`: TCP when nothing else is said.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let words = words(text)?;
    if words.is_empty() {
        return Err("a port is missing".into());
    }
    words
        .into_iter()
        .map(|word| {
            let (number, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
            let protocol = protocol.to_ascii_lowercase();
            let is_port = number.parse::<u16>().is_ok_and(|number| number > 0);
            if !is_port || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
                return Err(format!("{word:?} is not a port: write 80 or 53/udp"));
            }
            Ok(format!("{number}/{protocol}"))
        })
        .collect()
}

/// Absolute paths: a JSON list, or words.
fn paths(text: &str) -> Result<Vec<String>, String> {
    let paths = match text.starts_with('[') {
        true => command(text)?,
        false => words(text)?,
    };
    if paths.is_empty() {
        return Err("a directory is missing".into());
    }
    match paths.iter().find(|path| !path.starts_with('/')) {
        Some(path) => Err(format!("{path:?} is not an absolute path")),
        None => Ok(paths),
    }
}

/// A value without the quotes that surround it.
fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

/// Splits at spaces, but not within quotes; a backslash takes the next letter as it is.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => {
                let next = letters.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (letter, Some(open)) if letter == open => quote = None,
            (letter, Some(_)) => word.get_or_insert_default().push(letter),
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(letter);
            }
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, None) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(start: Value, changes: &[&str]) -> Value {
        let mut config = start.as_object().unwrap().clone();
        for change in changes {
            change.parse::<Change>().unwrap().apply(&mut config);
        }
        Value::Object(config)
    }

    #[test]
    fn changes_change_the_config() {
        let found = applied(
            json!({"Env": ["PATH=/bin", "A=1"], "Labels": null, "WorkingDir": "/srv/"}),
            &[
                r#"CMD ["-v", "x y"]"#,
                "entrypoint=/bin/web --port 1",
                r#"ENV A=2 B="3 4" C='5'\ 6"#,
                "ENV LONG a value with spaces",
                "LABEL=a.b/c=d e=",
                "EXPOSE 80 53/UDP",
                "USER 1000:1000",
                r#"VOLUME ["/data"]"#,
                "VOLUME /cache",
                "WORKDIR www",
                "STOPSIGNAL SIGINT",
                "ONBUILD RUN make",
            ],
        );
        let expected = json!({
            "Cmd": ["-v", "x y"],
            "Entrypoint": ["/bin/sh", "-c", "/bin/web --port 1"],
            "Env": ["PATH=/bin", "A=2", "B=3 4", "C=5 6", "LONG=a value with spaces"],
            "Labels": {"a.b/c": "d", "e": ""},
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "User": "1000:1000",
            "Volumes": {"/data": {}, "/cache": {}},
            "WorkingDir": "/srv/www",
            "StopSignal": "SIGINT",
            "OnBuild": ["RUN make"],
        });
        assert_eq!(found, expected);
        assert_eq!(applied(json!({"Cmd": ["x"]}), &["CMD []"]), json!({}));
        assert_eq!(applied(json!({"Cmd": ["x"]}), &["CMD"]), json!({}));
    }

    #[test]
    fn what_is_no_change_is_refused_with_a_reason() {
        for (text, expected) in [
            ("", "is not one of CMD"),
            ("RUN make", "\"RUN\" is not one of CMD"),
            ("CMD [1]", "JSON list"),
            ("ENV", "missing"),
            ("ENV A", "no value"),
            ("ENV A=1 B", "\"B\" is not NAME=VALUE"),
            ("LABEL =x", "NAME=VALUE"),
            ("LABEL a='b", "not closed"),
            ("EXPOSE 0", "not a port"),
            ("EXPOSE 70000", "not a port"),
            ("EXPOSE 80/x", "not a port"),
            ("USER", "missing"),
            ("VOLUME data", "absolute"),
            ("VOLUME", "missing"),
        ] {
            let error = text.parse::<Change>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
